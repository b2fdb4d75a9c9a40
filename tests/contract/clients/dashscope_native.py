"""Call a simulator through the 1.x interface of the dashscope SDK; print the results as JSON.

Runs in an environment of its own, without anything of this project: URL KEY AUDIO_FILE.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import dashscope

url, key, file = sys.argv[1:]
dashscope.base_http_api_url = f"{url}/api/v1"
AUDIO = "data:audio/wav;base64," + base64.b64encode(Path(file).read_bytes()).decode()
SYSTEM = {"role": "system", "content": [{"text": ""}]}


def asked(audio: str = AUDIO) -> list[dict[str, Any]]:
    return [SYSTEM, {"role": "user", "content": [{"audio": audio}]}]


def call(messages: list[dict[str, Any]], **given: Any) -> Any:
    given = {"api_key": key, "model": "qwen3-asr-flash", "result_format": "message", **given}
    return dashscope.MultiModalConversation.call(messages=messages, **given)


def shown(answer: Any) -> dict[str, Any]:
    return {
        "status": answer.status_code,
        "code": answer.code,
        "message": answer.message,
        "request_id": answer.request_id,
        "output": answer.output and json.loads(json.dumps(answer.output)),
        "seconds": (answer.usage or {}).get("seconds"),
        "duration": (answer.usage or {}).get("duration"),
    }


async def call_async() -> Any:
    return await dashscope.AioMultiModalConversation.call(
        api_key=key, model="qwen3-asr-flash", messages=asked(), result_format="message"
    )


def streamed(**given: Any) -> list[dict[str, Any]]:
    return [shown(event) for event in call(asked(), stream=True, **given)]


heard = [{"type": "input_audio", "input_audio": {"data": AUDIO}}]
print(json.dumps({
    "whole": shown(call(asked(), asr_options={"enable_lid": True, "language": "zh"})),
    "async": shown(asyncio.run(call_async())),
    "cumulative": streamed(),
    "incremental": streamed(incremental_output=True),
    "input_audio": shown(call(
        [{"role": "user", "content": heard}],
        model="qwen-audio-3.1-asr-flash", format="wav", sample_rate="16000",
    )),
    "bad_key": shown(call(asked(), api_key="sk-nobody")),
    "wrong_model": shown(call(asked(), model="paraformer-v2")),
    "bad_url": shown(call(asked("http://127.0.0.1:9/none.wav"))),
}))  # fmt: skip
