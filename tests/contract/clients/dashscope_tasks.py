"""Transcribe files with the 1.x interface of the dashscope SDK; print the results as JSON.

Runs in an environment of its own, without anything of this project: URL KEY FILE_URL AUDIO_FILE.
The simulator keeps a task waiting long enough to be cancelled.
"""

import json
import sys
from typing import Any

import dashscope
from dashscope.audio.asr import Transcription

try:
    from dashscope.audio.qwen_asr import QwenTranscription
except ImportError:  # 1.24.6 has none
    QwenTranscription = None

url, key, file_url, file = sys.argv[1:]
dashscope.base_http_api_url = f"{url}/api/v1"


def shown(answer: Any) -> dict[str, Any]:
    return {
        "status": answer.status_code,
        "code": answer.code,
        "request_id": answer.request_id,
        "output": answer.output and json.loads(json.dumps(answer.output)),
        "usage": answer.usage and json.loads(json.dumps(answer.usage)),
    }


def submitted(api: Any = Transcription, **given: Any) -> Any:
    given = {"model": "fun-asr", "file_urls": [file_url], **given}
    return api.async_call(**{"api_key": key, **given})


def local(model: str = "qwen3-asr-flash", path: str = file) -> Any:
    messages = [{"role": "user", "content": [{"audio": f"file://{path}"}]}]
    return dashscope.MultiModalConversation.call(
        api_key=key, model=model, messages=messages, result_format="message"
    )


def filetrans() -> dict[str, Any]:
    if QwenTranscription is None:
        return {}
    given = {"model": "qwen3-asr-flash-filetrans", "file_url": file_url, "api_key": key}
    task = QwenTranscription.async_call(**given, enable_words=True, language="zh")
    called_off = QwenTranscription.async_call(**given)
    return {
        "submitted": shown(task),
        "cancelled": shown(QwenTranscription.cancel(called_off, api_key=key)),
        "waited": shown(QwenTranscription.wait(task, api_key=key)),
        "fetched": shown(QwenTranscription.fetch(task, api_key=key)),
        "called_off": shown(QwenTranscription.wait(called_off, api_key=key)),
    }


several = {
    "file_urls": [file_url, f"{file_url}.none"],
    "model": "paraformer-v2",
    "phrase_id": "p-1",
    "diarization_enabled": True,
    "speaker_count": 2,
}
task, called_off, partly = submitted(), submitted(), submitted(**several)
print(json.dumps({
    "submitted": shown(task),
    "fetched": shown(Transcription.fetch(task, api_key=key)),
    "cancelled": shown(Transcription.cancel(called_off, api_key=key)),
    "waited": shown(Transcription.wait(task, api_key=key)),
    "partly": shown(Transcription.wait(partly, api_key=key)),
    "called_off": shown(Transcription.wait(called_off, api_key=key)),
    "too_late": shown(Transcription.cancel(task, api_key=key)),
    "unknown": shown(Transcription.wait("made-up", api_key=key)),
    "listed": shown(Transcription.list(api_key=key, model_name="fun-asr", status="CANCELED")),
    "bad_key": shown(submitted(api_key="sk-nobody")),
    "bad_key_polls": shown(Transcription.fetch("made-up", api_key="sk-nobody")),
    "wrong_model": shown(submitted(model="qwen3-asr-flash-filetrans")),
    "local": shown(local()),
    "filetrans": filetrans(),
}))  # fmt: skip
