"""A client of a gateway's own API: answers as JSON objects, failures as sentences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from app.net.client import Client, Response, TransportError, open_client

SILENCE_SECONDS = 120.0  # an upload is probed before it is answered, after others
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SHOWN_CHARS = 100  # of a mistyped address

Source = Path | str


class ApiError(Exception):
    """A failed call, in one sentence. `code` is the gateway's error code, if it sent one.

    `transcription_id` is set if the audio was accepted nevertheless; `retry_after` is in seconds.
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


class GatewayApi:
    """The API of one gateway, an async context manager. Every method raises ApiError."""

    def __init__(self, url: str, key: str | None) -> None:
        """Keep the address and the key. Raises ValueError if one of them is invalid."""
        if key and not (key.isascii() and key.isprintable()):
            raise ValueError("ASR_GATEWAY_KEY holds characters that no key has.")
        self.shown = _without_secrets(url)
        self._client: Client = open_client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            silence_seconds=SILENCE_SECONDS,
            proxies=urlsplit(url).hostname not in LOOPBACK,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def submit(self, source: Source, options: Mapping[str, Any]) -> dict[str, Any]:
        """Send a file or a URL, and return the transcription. Raises OSError as well.

        A file is streamed from the disk. Its name is not sent: it may name a speaker.
        """
        if isinstance(source, str):
            return await self._call("POST", "/v1/transcriptions", json={"url": source, **options})
        fields = {name: str(value) for name, value in options.items()}
        with source.open("rb") as file:
            files = {"file": ("recording", file)}
            return await self._call("POST", "/v1/transcriptions", files=files, data=fields)

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the object at a path of the API."""
        return await self._call("GET", path, params=query)

    async def transcription(self, job_id: str) -> dict[str, Any]:
        """Return a transcription in its present state."""
        return await self.get(_path(job_id))

    async def act(self, job_id: str, action: str) -> dict[str, Any]:
        """Apply an action (`cancel`, `retry`) to a transcription, and return it."""
        return await self._call("POST", f"{_path(job_id)}/{action}")

    async def transcript(self, job_id: str, form: str) -> str:
        """Return the transcript of a finished transcription in one of the API's formats."""
        answer = await self._send("GET", f"{_path(job_id)}/transcript", params={"format": form})
        if answer.is_error:
            raise self._error(answer)
        return answer.text

    async def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer = await self._send(method, path, **content)
        body = _answered_object(answer)
        if not answer.is_success or body is None:
            raise self._error(answer)
        return body

    async def _send(self, method: str, path: str, **content: Any) -> Response:
        try:
            return await self._client.request(method, path, **content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ApiError(
                f"No gateway answers at {self.shown}: start it with `asr-gateway serve`, "
                "or correct ASR_GATEWAY_URL.",
                retryable=True,
            ) from error
        except TransportError as error:
            raise ApiError(
                f"The connection to the gateway at {self.shown} was lost ({type(error).__name__}).",
                retryable=True,
            ) from error

    def _error(self, answer: Response) -> ApiError:
        body = _answered_object(answer)
        if body is None or not {"code", "detail"} <= body.keys():
            return ApiError(
                f"The server at {self.shown} is not an asr-gateway (HTTP {answer.status_code}); "
                "correct ASR_GATEWAY_URL."
            )
        wait = answer.headers.get("retry-after", "")
        hint = " Put a key into ASR_GATEWAY_KEY." if body["code"].startswith("key_") else ""
        return ApiError(
            f"{body['detail']}{hint}",
            code=body["code"],
            retryable=body.get("retryable", False),
            retry_after=float(wait) if wait.isascii() and wait.isdigit() else None,
            transcription_id=body.get("transcription_id", ""),
        )


def _path(job_id: str) -> str:
    if not job_id.strip("."):  # dots would lead to another path
        raise ApiError("This is not the id of a transcription.", code="not_found")
    return f"/v1/transcriptions/{quote(job_id, safe='')}"


def _answered_object(answer: Response) -> dict[str, Any] | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _without_secrets(url: str) -> str:
    """Return an address without user, password and query. Raises ValueError."""
    problem = ValueError(
        f"ASR_GATEWAY_URL is not the address of a gateway, such as http://127.0.0.1:8000: "
        f"{url.rpartition('@')[2][:SHOWN_CHARS]!r}."
    )
    try:
        parts, parsed = urlsplit(url), httpx.URL(url)
        host, port = parts.hostname, parts.port
    except (ValueError, httpx.InvalidURL):
        raise problem from None
    if parts.scheme not in {"http", "https"} or not host or not parsed.host or parts.query:
        raise problem
    authority = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{authority}" + (f":{port}" if port else "") + parts.path
