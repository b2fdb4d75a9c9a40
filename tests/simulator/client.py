"""Requests of the protocol, for tests that call the simulator without an SDK."""

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import httpx

from tests.simulator.server import CHAT, GENERATION, POLICY, TASKS, TRANSCRIPTION, ProviderSimulator

END_SECONDS = 20


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


def filetrans(
    url: str, *, model: str = "qwen3-asr-flash-filetrans", **parameters: Any
) -> dict[str, Any]:
    return {"model": model, "input": {"file_url": url}, "parameters": parameters}


def transcription(*urls: str, model: str = "fun-asr", **parameters: Any) -> dict[str, Any]:
    return {"model": model, "input": {"file_urls": list(urls)}, "parameters": parameters}


def form_of(policy: dict[str, Any], /, **changed: str | None) -> dict[str, str]:
    """Return the form fields before the file. None omits a field."""
    fields: dict[str, str | None] = {
        "OSSAccessKeyId": policy["oss_access_key_id"],
        "Signature": policy["signature"],
        "policy": policy["policy"],
        "key": policy["upload_dir"] + "/a.wav",
        "x-oss-object-acl": policy["x_oss_object_acl"],
        "x-oss-forbid-overwrite": policy["x_oss_forbid_overwrite"],
        "success_action_status": "200",
        **changed,
    }
    return {name: value for name, value in fields.items() if value is not None}


@dataclass
class SimulatorClient:
    """A client of a simulator. `region` and `key` default to the first region's."""

    simulator: ProviderSimulator
    client: httpx.AsyncClient

    async def native(self, body: dict[str, Any], **given: Any) -> httpx.Response:
        return await self.post(GENERATION, body, **given)

    async def chat(self, body: dict[str, Any], **given: Any) -> httpx.Response:
        return await self.post(CHAT, body, **given)

    async def submit(self, body: dict[str, Any], **given: Any) -> httpx.Response:
        headers = {"X-DashScope-Async": "enable", **given.pop("headers", {})}
        return await self.post(TRANSCRIPTION, body, headers=headers, **given)

    async def submitted(self, body: dict[str, Any], **given: Any) -> str:
        """Return the id of a new task."""
        answer = await self.submit(body, **given)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["output"]["task_id"]
        return found

    async def task(self, task_id: str, **given: Any) -> dict[str, Any]:
        """Return the answer of a query."""
        found: dict[str, Any] = (await self.get(f"{TASKS}/{task_id}", **given)).json()
        return found

    async def ended(self, body: dict[str, Any], **given: Any) -> dict[str, Any]:
        """Submit a task and return its last answer when it has ended."""
        task_id = await self.submitted(body, **given)
        await asyncio.wait_for(self.simulator.tasks_ended(), END_SECONDS)
        return await self.task(task_id)

    async def cancel(self, task_id: str) -> httpx.Response:
        return await self.post(f"{TASKS}/{task_id}/cancel", None)

    async def policy(self, model: str, **given: Any) -> dict[str, Any]:
        answer = await self.get(POLICY, params={"action": "getPolicy", "model": model}, **given)
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        found: dict[str, Any] = answer.json()["data"]
        return found

    async def upload(
        self, policy: dict[str, Any], data: bytes, /, **changed: str | None
    ) -> httpx.Response:
        """Send the upload form of a policy, with changed fields."""
        files = {"file": ("a.wav", data)}
        host = policy["upload_host"]
        return await self.client.post(host, data=form_of(policy, **changed), files=files)

    async def get(self, path: str, *, key: str | None = None, **given: Any) -> httpx.Response:
        bearer = {"authorization": f"Bearer {key or self.simulator.key}"}
        return await self.client.get(self.simulator.url + path, headers=bearer, **given)

    async def post(
        self,
        path: str,
        body: dict[str, Any] | None,
        *,
        region: str | None = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        name = region or self.simulator.regions[0].name
        bearer = {"authorization": f"Bearer {key or self.simulator.key_of(name)}"}
        return await self.client.post(
            self.simulator.urls[name] + path, json=body, headers={**bearer, **(headers or {})}
        )
