"""Parts of the OpenAPI document that FastAPI cannot derive: the upload's body and real examples."""

import json
from typing import Any

from app.net.urls import MAX_URL_CHARS
from app.settings import AudioSettings
from app.speech.options import Options
from app.speech.subtitles.formats import Form
from app.speech.transcript import Transcript

EXAMPLE_ID = "tr_0190f5c2a7b07c3e8d2f4a6b8c0d1e2f"

_DONE: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "status": "completed",
    "text": "He was not an ill-disposed young man.",
    "language": "en",
    "emotion": None,
    "segments": [
        {
            "start": 0.0,
            "end": 3.2,
            "text": "He was not an ill-disposed young man.",
            "timing": "upstream",
            "language": "en",
            "emotion": None,
            "speaker": None,
            "words": [],
        }
    ],
    "model": "local/base",
    "engine": "local",
    "mode": "auto",
    "plan": {
        "kind": "direct",
        "part_seconds": 120,
        "reason": "local/base takes 120 s in one call and the recording has 3.4 s",
        "as_is": False,
    },
    "task_id": None,
    "audio": {
        "id": "aud_0190f5c2a7b07c3e8d2f4a6b8c0d1e2f",
        "seconds": 3.4,
        "format": "mp3",
        "channels": 1,
        "sample_rate": 44100,
        "bytes": 54000,
    },
    "usage": {"seconds": 3.4, "tokens": None, "estimated": True},
    "cost": {"amount": "0", "currency": "CNY", "nano": 0},
    "coverage": 1.0,
    "progress": 1.0,
    "warnings": [],
    "error": None,
    "reference": "call-17",
    "metadata": None,
    "raw": None,
    "created_at": "2026-11-21T05:28:00.000Z",
    "started_at": "2026-11-21T05:28:00.000Z",
    "completed_at": "2026-11-21T05:28:01.250Z",
}
_RUNNING = {
    **_DONE,
    "status": "processing",
    "text": None,
    "language": None,
    "segments": [],
    "coverage": None,
    "progress": 0.25,
    "usage": {"seconds": 0.0, "tokens": None, "estimated": False},
    "completed_at": None,
}

ACCEPTED: dict[str, Any] = {
    "description": "Still running after `wait` seconds, or `mode=async`: ask again at `Location`.",
    "headers": {
        "Location": {
            "description": "Where the transcription can be fetched.",
            "schema": {"type": "string"},
        },
        "Retry-After": {"description": "Seconds until then.", "schema": {"type": "integer"}},
    },
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/TranscriptionOut"},
            "example": _RUNNING,
        }
    },
}
_NONE = {"amount": "0", "currency": "CNY", "nano": 0}
CANCELLED: dict[str, Any] = {
    "description": "The transcription is cancelled.",
    "content": {
        "application/json": {
            "example": {
                **_RUNNING,
                "status": "cancelled",
                "completed_at": _DONE["completed_at"],
                "charged": _NONE,
                "in_doubt": {"amount": "0.00088", "currency": "CNY", "nano": 880_000},
            }
        }
    },
}
RETRIED: dict[str, Any] = {
    **ACCEPTED,
    "description": "Queued again: ask at `Location`.",
    "content": {"application/json": {"example": {**_RUNNING, "status": "queued"}}},
}
ONE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The transcription.", "content": {"application/json": {"example": _DONE}}}
}
PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of transcriptions.",
        "content": {"application/json": {"example": {"items": [_DONE], "next_cursor": None}}},
    }
}

STREAM_TOKEN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The token.",
        "content": {
            "application/json": {
                "example": {
                    "token": f"st_1795239180_{'a' * 43}",
                    "expires_at": "2026-11-21T05:33:00.000Z",
                    "url": f"/v1/transcriptions/{EXAMPLE_ID}/events?token=st_1795239180_{'a' * 43}",
                }
            }
        },
    }
}
_STREAMED = {**_DONE, "mode": "stream"}
_SEGMENT = {
    name: _DONE["segments"][0][name] for name in ("start", "end", "text", "language", "emotion")
}


def _data(**said: Any) -> str:
    return json.dumps(said, separators=(",", ":"))


_EVENTS_EXAMPLE = f"""retry: 1000

event: created
data: {_data(id=EXAMPLE_ID, model=_DONE["model"])}
id: 1-0d1e2f

event: delta
data: {_data(text="He was not an ill-disposed")}
id: 1.26-0d1e2f

: ping

event: delta
data: {_data(text=" young man.")}
id: 1.37-0d1e2f

event: segment
data: {_data(index=0, **_SEGMENT)}
id: 2-0d1e2f

event: progress
data: {_data(done_seconds=3.4, total_seconds=3.4)}
id: 3-0d1e2f

event: completed
data: {_data(language="en", coverage=1.0, transcription=_STREAMED)}
id: 4-0d1e2f

"""
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {"schema": {"type": "string"}, "example": _EVENTS_EXAMPLE}
}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, whose data is JSON: `created`, `progress`, `delta`, "
        "`segment`, `reset`, `completed`, `failed`, `cancelled`, `closing`. A `delta` is text as "
        "it is heard; `segment` says which part they were, and has `gap: true` and no text where "
        "it could not be transcribed; `reset` voids the deltas since the last `segment`, and with "
        "`from` the segments from that index on. The stream ends behind `completed`, `failed` or "
        "`cancelled`; behind `closing` it goes on at a new connection.",
        "content": EVENT_STREAM,
    },
    204: {"description": "The transcription has ended, and all its events were received."},
}

COMPLETED: dict[str, Any] = {
    "description": "The transcription is completed; or, where a stream was asked for, its events.",
    "content": {"application/json": {"example": _DONE}, **EVENT_STREAM},
}

_SUBTITLES = {
    "text/plain": "He was not an ill-disposed young man.\n",
    "application/x-subrip": "1\n00:00:00,000 --> 00:00:03,200\n"
    "He was not an ill-disposed young man.\n",
    "text/vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:03.200\nHe was not an ill-disposed young man.\n",
    "application/lrc": "[00:00.00]He was not an ill-disposed young man.\n",
    "text/tab-separated-values": "start\tend\ttext\n"
    "0\t3200\tHe was not an ill-disposed young man.\n",
}
MEDIA_TYPES: dict[Form, str] = {
    "json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "lrc": "application/lrc",
    "tsv": "text/tab-separated-values",
}
TRANSCRIPT_ANSWERS: dict[str, Any] = {
    "description": "The words, in the form asked for.",
    "model": Transcript,
    "content": {
        "application/json": {
            "example": {
                name: _DONE[name]
                for name in ("text", "language", "emotion", "segments", "coverage")
            },
        },
        **{
            media_type: {"schema": {"type": "string"}, "example": example}
            for media_type, example in _SUBTITLES.items()
        },
    },
}


def _options() -> dict[str, Any]:
    """Return the options as properties of a schema, inlined: the same for a form and for JSON."""
    properties: dict[str, Any] = Options.model_json_schema()["properties"]
    for schema in properties.values():
        schema.pop("title", None)
    return properties


_LINK: dict[str, Any] = {
    "url": {
        "type": "string",
        "maxLength": MAX_URL_CHARS,
        "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
        "description": "A link to the recording, which is fetched once the transcription is "
        "accepted. It must work without a login, and lead to the file itself.",
        "examples": ["https://example.org/speech.mp3"],
    }
}


_LENGTH: dict[str, Any] = {
    "seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        # The longest recording that a gateway takes, if it is not set up otherwise.
        "maximum": AudioSettings.model_fields["max_seconds"].default,
        "description": "The length of a recording that is not sent.",
        "examples": [3600],
    }
}


def _body(source: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that holds the recording in exactly one of the ways there are."""
    ways = {**source, **_LINK}
    return {
        "type": "object",
        "oneOf": [{"required": [way]} for way in ways],
        "properties": {**ways, **_options()},
    }


_FILE: dict[str, Any] = {
    "file": {
        "type": "string",
        "format": "binary",
        "description": "The recording: any common audio format, or a video with a sound track.",
    }
}
_INLINE: dict[str, Any] = {
    "audio": {
        "type": "string",
        "maxLength": 16 << 20,
        "pattern": "^([Dd][Aa][Tt][Aa]:|[Hh][Tt][Tt][Pp][Ss]?://)",
        "description": "The recording as a data: URI; or a link, as in `url`.",
        "examples": ["data:audio/wav;base64,UklGRg=="],
    }
}


def _request(**more: Any) -> dict[str, Any]:
    """Describe a request in both of its forms; `more` are ways instead of a recording."""
    form = {
        "schema": _body({**_FILE, **more}),
        # These are one JSON object in one field each; lists may repeat their field.
        "encoding": {
            name: {"contentType": "application/json"}
            for name in ("metadata", "vocabulary", "special_word_filter")
        },
    }
    inline = {"schema": _body({**_INLINE, **more})}
    return {
        "required": True,
        "content": {"multipart/form-data": form, "application/json": inline},
    }


REQUEST_BODY = _request()
ESTIMATE_BODY = _request(**_LENGTH)
