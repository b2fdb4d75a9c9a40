"""Recorded requests of the real SDKs, completed with the values that a recording must not contain.

These are the key, the full audio, and the values of an upload policy.
"""

import base64
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.simulator import ProviderSimulator, counting

CAPTURES = Path(__file__).parents[1] / "simulator" / "captures"
AUDIO = counting.encode([7])
DATA_URI = "data:audio/wav;base64," + base64.b64encode(AUDIO).decode()
WELCOME = "https://dashscope.oss-cn-beijing.aliyuncs.com/audios/welcome.mp3"
_SHORTENED = re.compile(r"data:audio/wav;base64,[^\"]*")
_CUT_OUT = re.compile(rb"<\d+ bytes binary[^\r\n]*>")
_OWN_HEADERS = {"host", "content-length", "accept-encoding"}


@dataclass(frozen=True)
class Recording:
    """One recorded request of an SDK."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    def __str__(self) -> str:
        return self.name

    @property
    def is_form(self) -> bool:
        return "multipart" in self.headers.get("content-type", "")

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content) if self.content else {}
        return found

    @property
    def bare_path(self) -> str:
        return urlsplit(self.path).path

    @property
    def is_stream(self) -> bool:
        return bool(self.body.get("stream")) or "x-dashscope-sse" in self.headers

    @property
    def parameters(self) -> dict[str, Any]:
        return self.body.get("parameters") or {}

    def field(self, name: str) -> str | None:
        """Return the value of a form field."""
        found = re.search(_part(name), self.content)
        return found[2].decode() if found else None

    def to(self, path: str) -> "Recording":
        return replace(self, path=path)

    def holding(self, old: str, new: str) -> "Recording":
        """Return the request with one string replaced by another."""
        return replace(self, content=self.content.replace(old.encode(), new.encode()))

    def filled(self, **fields: str) -> "Recording":
        """Return the form with other values in its fields."""
        content = self.content
        for name, value in fields.items():
            content, count = re.subn(_part(name), rb"\g<1>" + value.encode(), content)
            assert count == 1, name
        return replace(self, content=content)


def _part(name: str) -> bytes:
    return rb'(form-data; name="' + re.escape(name).encode() + rb'"\r\n\r\n)([^\r]*)'


def recorded(file: Path) -> Recording:
    head, _, body = file.read_text().partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    kept = {name: value for name, value in headers.items() if name not in _OWN_HEADERS}
    method, path, _ = first.split()
    if "multipart" in kept.get("content-type", ""):
        content = _CUT_OUT.sub(lambda _: AUDIO, body.strip().replace("\n", "\r\n").encode())
        content += b"\r\n"
    else:
        content = _SHORTENED.sub(lambda _: DATA_URI, body.strip()).encode()
    return Recording(file.stem, method, path, kept, content)


ALL = [recorded(file) for file in sorted(CAPTURES.glob("*.http"))]


def named(*parts: str) -> Recording:
    """Return the only recording whose name contains these parts."""
    (found,) = [one for one in ALL if all(part in one.name for part in parts)]
    return found


async def replay(
    simulator: ProviderSimulator, one: Recording, key: str | None = None, url: str | None = None
) -> httpx.Response:
    usual = simulator.urls["vllm"] if one.path.startswith("/v1/") else simulator.url
    headers = dict(one.headers)
    if "authorization" in headers:
        headers["authorization"] = f"Bearer {key or simulator.key}"
    async with httpx.AsyncClient() as client:
        where = (url or usual) + one.path
        return await client.request(one.method, where, content=one.content, headers=headers)
