"""Requests of a web page of another origin, sent as a browser sends them, to a real gateway."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.gateway import speech
from tests.support.process import GatewayProcess
from tests.support.sse_client import read_events

PAGE, OTHER = "https://app.example", "https://evil.example"
PATH = "/v1/transcriptions"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway without keys that allows one origin."""
    folder = tmp_path_factory.mktemp("listing")
    process = GatewayProcess(folder, settings={"SERVER__CORS_ORIGINS": PAGE})
    with process.gone_at_the_end():
        process.start()
        yield process


@pytest.fixture
def page(gateway: GatewayProcess) -> Iterator["Page"]:
    with httpx.Client(base_url=gateway.url, headers={"Origin": PAGE}, timeout=30) as client:
        yield Page(client, PAGE)


@pytest.fixture
def other(gateway: GatewayProcess) -> Iterator["Page"]:
    with httpx.Client(base_url=gateway.url, headers={"Origin": OTHER}, timeout=30) as client:
        yield Page(client, OTHER)


@dataclass
class Page:
    """Sends a page's requests as a browser does, with a preflight, and hides other answers."""

    client: httpx.Client
    origin: str

    def allows(self, answer: httpx.Response) -> bool:
        return answer.headers.get("access-control-allow-origin") in {"*", self.origin}

    def fetch(self, method: str, path: str, *asked: str, **more: Any) -> httpx.Response | None:
        """Return the answer that a script receives; None is `TypeError: Failed to fetch`."""
        if asked or method not in {"GET", "POST"}:
            wish = {"Access-Control-Request-Method": method}
            if asked:
                wish["Access-Control-Request-Headers"] = ",".join(sorted(asked))
            first = self.client.options(path, headers=wish)
            if not (first.is_success and self.allows(first)):
                return None
        answer = self.client.request(method, path, **more)
        return answer if self.allows(answer) else None


def test_a_listed_page_sends_a_recording_and_follows_it(page: Page) -> None:
    prefer = {"Prefer": "respond-async"}
    files = {"file": ("speech.wav", speech(2))}
    sent = page.fetch("POST", PATH, "prefer", files=files, headers=prefer)
    assert sent is not None
    assert sent.status_code == 202
    assert "Location" in sent.headers["access-control-expose-headers"]
    made = page.fetch("POST", f"{sent.headers['location']}/stream-token")
    assert made is not None
    url = made.json()["url"]
    # An EventSource asks with no header of its own, so without a preflight.
    with page.client.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
        assert page.allows(answer)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events, last = read_events(answer.read())
    assert events[-1].type == "completed"
    again = page.fetch("GET", url, "last-event-id", headers={"Last-Event-ID": last})
    assert again is not None
    assert again.status_code == 204
    gone = page.fetch("DELETE", sent.headers["location"])
    assert gone is not None
    assert gone.status_code == 204


def test_a_page_can_read_the_error_of_an_invalid_token(page: Page) -> None:
    answer = page.fetch("GET", f"{PATH}/tr_{'0' * 32}/events?token=st_1_x")
    assert answer is not None
    assert (answer.status_code, answer.json()["code"]) == (401, "stream_token_invalid")


def test_a_page_of_another_origin_can_send_and_read_nothing(other: Page) -> None:
    assert other.fetch("POST", PATH, "authorization") is None
    assert other.fetch("GET", "/v1/models") is None
    answer = other.client.post(PATH, files={"file": ("speech.wav", speech(2))})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
