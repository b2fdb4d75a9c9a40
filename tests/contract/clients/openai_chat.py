"""Call a simulator's compatible mode and its vLLM with the openai SDK; print JSON.

Runs in an environment of its own, without anything of this project: URL KEY VLLM_URL AUDIO_FILE.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import openai

url, key, vllm_url, file = sys.argv[1:]
RAW = Path(file).read_bytes()
AUDIO = "data:audio/wav;base64," + base64.b64encode(RAW).decode()
OPEN = "Qwen/Qwen3-ASR-1.7B"


def client(api_key: str = key, retries: int = 0) -> openai.OpenAI:
    base = f"{url}/compatible-mode/v1"
    return openai.OpenAI(api_key=api_key, base_url=base, max_retries=retries)


def asked(with_client: openai.OpenAI, **given: Any) -> Any:
    part = {"type": "input_audio", "input_audio": {"data": AUDIO}}
    given = {"model": "qwen3-asr-flash", **given}
    messages: Any = [{"role": "user", "content": [part]}]
    return with_client.chat.completions.create(messages=messages, **given)


def refused(with_client: openai.OpenAI, **given: Any) -> dict[str, Any]:
    try:
        for _ in asked(with_client, **given):
            pass
    except openai.APIStatusError as error:
        return {"type": type(error).__name__, "status": error.status_code, "code": error.code}
    return {}


def omni(**given: Any) -> Any:
    sound = {"type": "input_audio", "input_audio": {"data": AUDIO, "format": "wav"}}
    told = {"type": "text", "text": "Write down word for word what is said."}
    messages: Any = [{"role": "user", "content": [sound, told]}]
    return client().chat.completions.create(
        model="qwen3-omni-flash", messages=messages, modalities=["text"], **given
    )


def unstreamed() -> dict[str, Any]:
    try:
        return omni().model_dump()
    except openai.APIStatusError as error:
        return {"status": error.status_code, "code": error.code}


options = {"asr_options": {"language": "zh", "enable_itn": False}}
usage = {"include_usage": True}
vllm = openai.OpenAI(api_key="none", base_url=f"{vllm_url}/v1", max_retries=0)
part = {"type": "audio_url", "audio_url": {"url": AUDIO}}
raw_messages: Any = [{"role": "user", "content": [part]}]
transcribed = vllm.audio.transcriptions.create(model=OPEN, file=("a.wav", RAW), language="en")
print(json.dumps({
    "whole": asked(client(), extra_body=options).model_dump(),
    "streamed": [one.model_dump() for one in asked(client(), stream=True, stream_options=usage)],
    "bad_key": refused(client("sk-nobody")),
    "wrong_model": refused(client(), model="qwen-audio-3.1-asr-flash"),
    "no_model": refused(client(), model="qwen9"),
    "stream_options": refused(client(), stream_options=usage),
    "omni": [one.model_dump() for one in omni(stream=True, stream_options=usage)],
    "omni_unstreamed": unstreamed(),
    "raw": vllm.chat.completions.create(model=OPEN, messages=raw_messages).model_dump(),
    "transcribed": transcribed.model_dump(),
    "models": [model.id for model in vllm.models.list()],
}))  # fmt: skip
