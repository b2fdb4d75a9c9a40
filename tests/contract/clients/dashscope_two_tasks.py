"""Transcribe files with the client of dashscope 2 and a simulator; print JSON.

Runs in an environment of its own, without anything of this project: URL KEY FILE_URL AUDIO_FILE.
"""

import json
import sys
import warnings
from typing import Any

from dashscope import Client
from dashscope.v2.resources._jobs import Jobs

warnings.simplefilter("ignore", FutureWarning)
url, key, file_url, file = sys.argv[1:]


def client(api_key: str = key) -> Client:
    return Client(api_key=api_key, base_url=f"{url}/api/v1", max_retries=0)


def shown(job: Any) -> dict[str, Any]:
    return {
        "status": job.status,
        "submitted_at": job.submitted_at,
        "finished_at": job.finished_at,
        "usage": job.usage and json.loads(job.usage.model_dump_json()),
        "results": [result.model_dump() for result in job.results],
        "output": job.output,
    }


def refused(asked: Any) -> dict[str, Any]:
    try:
        asked()
    except Exception as error:
        return {"type": type(error).__name__, "status": getattr(error, "status_code", None)}
    return {}


quick = {"poll_interval": 0.2}
asr = client().audio.asr
jobs = Jobs(client(), "audio/asr/transcription")
created = asr.jobs.create(model="fun-asr", file_urls=[file_url], parameters={"channel_id": [0]})
called_off = asr.jobs.create(model="fun-asr", file_urls=[file_url])
local = [{"role": "user", "content": [{"audio": f"file://{file}"}]}]
print(json.dumps({
    "created": shown(created),
    "cancelled": jobs.cancel(called_off.task_id).request_id,
    "waited": shown(asr.jobs.wait(created, **quick)),
    "fetched": shown(asr.jobs.fetch(created.task_id)),
    "called_off": refused(lambda: asr.jobs.wait(called_off, **quick)),
    "default": shown(asr.transcribe([file_url], **quick)),
    "failed": refused(lambda: asr.transcribe([f"{file_url}.none"], model="fun-asr", **quick)),
    "unknown": shown(asr.jobs.wait("made-up")),
    "listed": jobs.list(status="SUCCEEDED").total,
    "qwen3": refused(lambda: asr.transcribe([file_url], model="qwen3-asr-flash-filetrans")),
    "bad_key": refused(lambda: client("sk-nobody").audio.asr.transcribe([file_url])),
    "local": json.loads(json.dumps(
        client().multimodal.chat.create(model="qwen3-asr-flash", messages=local), default=vars
    )),
}))  # fmt: skip
