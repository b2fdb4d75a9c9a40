"""Call a simulator with the client of dashscope 2, over both of its wires; print JSON.

Runs in an environment of its own, without anything of this project: URL KEY AUDIO_FILE.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from dashscope import Client

url, key, file = sys.argv[1:]
AUDIO = "data:audio/wav;base64," + base64.b64encode(Path(file).read_bytes()).decode()


def client(api_key: str = key, **given: Any) -> Client:
    return Client(api_key=api_key, base_url=f"{url}/api/v1", max_retries=0, **given)


def chat(with_client: Client, content: list[dict[str, Any]], **given: Any) -> Any:
    given = {"model": "qwen3-asr-flash", **given}
    messages = [{"role": "user", "content": content}]
    return with_client.multimodal.chat.create(messages=messages, **given)


def shown(answer: Any) -> Any:
    return json.loads(json.dumps(answer, default=vars))


def refused(api_key: str, **given: Any) -> dict[str, Any]:
    try:
        chat(client(api_key), [{"audio": AUDIO}], **given)
    except Exception as error:
        return {"type": type(error).__name__, "status": getattr(error, "status_code", None)}
    return {}


options = {"result_format": "message", "asr_options": {"enable_itn": False}}
heard = [{"type": "input_audio", "input_audio": {"data": AUDIO, "format": "wav"}}]
openai = Client(api_key=key, base_url=f"{url}/compatible-mode/v1", protocol="openai", max_retries=0)
print(json.dumps({
    "whole": shown(chat(client(), [{"audio": AUDIO}], parameters=options)),
    "streamed": [shown(one) for one in chat(client(), [{"audio": AUDIO}], stream=True)],
    "compatible": shown(chat(openai, heard)),
    "bad_key": refused("sk-nobody"),
    "wrong_model": refused(key, model="paraformer-v2"),
}))  # fmt: skip
