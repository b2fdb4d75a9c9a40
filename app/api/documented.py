"""Parts of the OpenAPI document that FastAPI cannot derive: the upload's body and real examples."""

from typing import Any

from app.net.urls import MAX_URL_CHARS
from app.speech.options import Options
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
        "why": "local/base takes 120 s in one call and the recording has 3.4 s",
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

COMPLETED: dict[str, Any] = {
    "description": "The transcription is completed.",
    "content": {"application/json": {"example": _DONE}},
}
ACCEPTED: dict[str, Any] = {
    "description": "Still running after `wait` seconds: ask again at `Location`.",
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
ONE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The transcription.", "content": {"application/json": {"example": _DONE}}}
}
PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of transcriptions.",
        "content": {"application/json": {"example": {"items": [_DONE], "next_cursor": None}}},
    }
}

_SUBTITLES = {
    "text/plain": "He was not an ill-disposed young man.\n",
    "application/x-subrip": "1\n00:00:00,000 --> 00:00:03,200\n"
    "He was not an ill-disposed young man.\n",
    "text/vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:03.200\nHe was not an ill-disposed young man.\n",
    "application/lrc": "[00:00.00]He was not an ill-disposed young man.\n",
}
MEDIA_TYPES = dict(zip(("text", "srt", "vtt", "lrc"), _SUBTITLES, strict=True))
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


def _body(source: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that holds the recording in exactly one of the ways there are."""
    ways = {**source, **_LINK}
    return {
        "type": "object",
        "oneOf": [{"required": [way]} for way in ways],
        "properties": {**ways, **_options()},
    }


REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _body(
                {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "The recording: any common audio format, or a video "
                        "with a sound track.",
                    }
                }
            ),
            # These are one JSON object in one field each; lists may repeat their field.
            "encoding": {
                name: {"contentType": "application/json"}
                for name in ("metadata", "vocabulary", "special_word_filter")
            },
        },
        "application/json": {
            "schema": _body(
                {
                    "audio": {
                        "type": "string",
                        "maxLength": 16 << 20,
                        "pattern": "^([Dd][Aa][Tt][Aa]:|[Hh][Tt][Tt][Pp][Ss]?://)",
                        "description": "The recording as a data: URI; or a link, as in `url`.",
                        "examples": ["data:audio/wav;base64,UklGRg=="],
                    }
                }
            )
        },
    },
}
