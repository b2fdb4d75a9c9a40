"""Requests as the protocol has them, for tests that speak to the twin without an SDK."""

import base64
from dataclasses import dataclass
from typing import Any

import httpx

from tests.twin.server import CHAT, GENERATION, Twin


def data_uri(audio: bytes, kind: str = "wav") -> str:
    return f"data:audio/{kind};base64,{base64.b64encode(audio).decode()}"


def qwen3(audio: str, *, model: str = "qwen3-asr-flash", context: str = "") -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"audio": audio}]}]
    if context:
        messages.insert(0, {"role": "system", "content": [{"text": context}]})
    return {"model": model, "input": {"messages": messages}}


def input_audio(
    audio: str, *, model: str = "qwen-audio-3.0-asr-flash", **parameters: Any
) -> dict[str, Any]:
    content = [{"type": "input_audio", "input_audio": {"data": audio}}]
    return {
        "model": model,
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"format": "wav", "sample_rate": "16000", **parameters},
    }


def compatible(audio: str, *, model: str = "qwen3-asr-flash", **more: Any) -> dict[str, Any]:
    content = [{"type": "input_audio", "input_audio": {"data": audio}}]
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


@dataclass
class Asker:
    """A client of a twin; `region` and `key` are the first region's unless said."""

    twin: Twin
    client: httpx.AsyncClient

    async def native(self, body: dict[str, Any], **given: Any) -> httpx.Response:
        return await self.post(GENERATION, body, **given)

    async def chat(self, body: dict[str, Any], **given: Any) -> httpx.Response:
        return await self.post(CHAT, body, **given)

    async def post(
        self,
        path: str,
        body: dict[str, Any],
        *,
        region: str | None = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        name = region or self.twin.regions[0].name
        bearer = {"authorization": f"Bearer {key or self.twin.key_of(name)}"}
        return await self.client.post(
            self.twin.urls[name] + path, json=body, headers={**bearer, **(headers or {})}
        )
