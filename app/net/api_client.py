"""A client of a gateway's own API: answers as JSON objects, failures as sentences for people.

ApiError
└── GatewayAway      nobody answers there, or the connection broke
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from app.net.client import Client, Response, TransportError, open_client

SILENCE_SECONDS = 120.0  # an upload is probed before it is answered, behind others
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SHOWN_CHARS = 100  # of what somebody typed

Source = Path | str


class ApiError(Exception):
    """A call that failed, in one sentence. `code` is the gateway's word for it, if it sent one.

    `transcription_id` is there where the recording was accepted all the same; `retry_after` is
    in seconds.
    """

    def __init__(
        self,
        sentence: str,
        *,
        code: str = "",
        retryable: bool = False,
        retry_after: float | None = None,
        transcription_id: str = "",
    ) -> None:
        super().__init__(sentence)
        self.code, self.retryable, self.retry_after = code, retryable, retry_after
        self.transcription_id = transcription_id


class GatewayAway(ApiError):
    """Nobody answers at the gateway's address; `never_sent` says that nothing arrived there."""

    def __init__(self, sentence: str, *, never_sent: bool) -> None:
        super().__init__(sentence, retryable=True)
        self.never_sent = never_sent


class GatewayApi:
    """One gateway's API, to be used as an async context manager; every method raises ApiError."""

    def __init__(self, url: str, key: str | None) -> None:
        """Take the address and a key. Raises ValueError where the address is none."""
        self.shown = _shown(url)
        self._client: Client = open_client(
            base_url=url,
            headers={"Authorization": f"Bearer {_header(key)}"} if key else {},
            silence_seconds=SILENCE_SECONDS,
            proxies=urlsplit(url).hostname not in LOOPBACK,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def submit(self, source: Source, options: Mapping[str, Any]) -> dict[str, Any]:
        """Send a recording, or its link, and return the transcription. Raises OSError as well.

        A file is streamed from the disk. Its own name stays here: it may say who speaks.
        """
        if isinstance(source, str):
            return await self._asked("POST", "/v1/transcriptions", json={"url": source, **options})
        fields = {name: str(value) for name, value in options.items()}
        with source.open("rb") as file:
            files = {"file": ("recording", file)}
            return await self._asked("POST", "/v1/transcriptions", files=files, data=fields)

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what is at an address of the API."""
        return await self._asked("GET", path, params=query)

    async def transcription(self, job_id: str) -> dict[str, Any]:
        """Return a transcription as it is by now."""
        return await self.get(_address(job_id))

    async def steer(self, job_id: str, deed: str) -> dict[str, Any]:
        """Do a deed to a transcription (`cancel`, `retry`) and return it."""
        return await self._asked("POST", f"{_address(job_id)}/{deed}")

    async def rendered(self, job_id: str, form: str) -> str:
        """Return a finished transcription's words in one of the API's forms."""
        answer = await self._answer(
            "GET", f"{_address(job_id)}/transcript", params={"format": form}
        )
        if answer.is_error:
            raise self._error(answer)
        return answer.text

    async def _asked(self, method: str, path: str, **what: Any) -> dict[str, Any]:
        answer = await self._answer(method, path, **what)
        body = _object(answer)
        if not answer.is_success or body is None:
            raise self._error(answer)
        return body

    async def _answer(self, method: str, path: str, **what: Any) -> Response:
        try:
            return await self._client.request(method, path, **what)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise GatewayAway(
                f"No gateway answers at {self.shown}: start it with `asr-gateway serve`, "
                "or correct ASR_GATEWAY_URL.",
                never_sent=True,
            ) from error
        except TransportError as error:
            raise GatewayAway(
                f"The connection to the gateway at {self.shown} broke ({type(error).__name__}).",
                never_sent=False,
            ) from error

    def _error(self, answer: Response) -> ApiError:
        body = _object(answer)
        if body is None or not {"code", "detail"} <= body.keys():
            return ApiError(
                f"What answers at {self.shown} is no asr-gateway (HTTP {answer.status_code}); "
                "correct ASR_GATEWAY_URL."
            )
        hint = " Put a key into ASR_GATEWAY_KEY." if body["code"].startswith("key_") else ""
        return ApiError(
            f"{body['detail']}{hint}",
            code=body["code"],
            retryable=body.get("retryable", False),
            retry_after=_seconds(answer.headers.get("retry-after")),
            transcription_id=body.get("transcription_id", ""),
        )


def _address(job_id: str) -> str:
    if not job_id.strip("."):  # that would be another address
        raise ApiError("That is no id of a transcription.", code="not_found")
    return f"/v1/transcriptions/{quote(job_id, safe='')}"


def _object(answer: Response) -> dict[str, Any] | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.isascii() and value.isdigit() else None


def _shown(url: str) -> str:
    """Return an address without what may be secret in it. Raises ValueError."""
    problem = ValueError(
        f"ASR_GATEWAY_URL is no address of a gateway, such as http://127.0.0.1:8000: "
        f"{url.rpartition('@')[2][:SHOWN_CHARS]!r}."
    )
    try:
        parts, known = urlsplit(url), httpx.URL(url)
        host, port = parts.hostname, parts.port
    except (ValueError, httpx.InvalidURL):
        raise problem from None
    if parts.scheme not in {"http", "https"} or not host or not known.host or parts.query:
        raise problem
    at = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{at}" + (f":{port}" if port else "") + parts.path


def _header(key: str) -> str:
    """Return a key as a header can carry it. Raises ValueError."""
    if not key.isascii() or not key.isprintable():
        raise ValueError("ASR_GATEWAY_KEY holds characters that no key has.")
    return key
