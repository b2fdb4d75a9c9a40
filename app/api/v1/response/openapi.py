"""The answers of the OpenAPI document that several routes give, or that have several formats."""

from typing import Any

from app.api.v1.response.examples import example, json_answer
from app.speech.subtitles.formats import Format
from app.speech.transcript import Transcript

ACCEPTED: dict[str, Any] = {
    "description": "Still running after `wait` seconds, or `mode=async`. Poll `Location`.",
    "headers": {
        "Location": {
            "description": "The URL of the transcription.",
            "schema": {"type": "string"},
        },
        "Retry-After": {
            "description": "Seconds until the next poll.",
            "schema": {"type": "integer"},
        },
    },
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/TranscriptionOut"},
            "example": example("processing.json"),
        }
    },
}
RETRIED: dict[str, Any] = {
    **ACCEPTED,
    **json_answer("Queued again. Poll `Location`.", "queued.json"),
}
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {"schema": {"type": "string"}, "example": example("events.sse")}
}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, whose data is JSON: `created`, `progress`, `delta`, "
        "`segment`, `reset`, `completed`, `failed`, `cancelled`, `closing`. A `delta` is text that "
        "may still change. A `segment` makes the deltas since the previous one final, or has "
        "`gap: true` and no text if a part could not be transcribed. A `reset` removes the deltas "
        "since the last `segment`, and with `from` the segments from that index on. The stream "
        "ends after `completed`, `failed` or `cancelled`. After `closing`, connect again.",
        "content": EVENT_STREAM,
    },
    204: {"description": "The transcription has ended, and all its events were received."},
}
COMPLETED: dict[str, Any] = {
    "description": "The completed transcription, or its events if a stream was requested.",
    "content": {"application/json": {"example": example("completed.json")}, **EVENT_STREAM},
}
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "lrc": "application/lrc",
    "tsv": "text/tab-separated-values",
}
TRANSCRIPT: dict[str, Any] = {
    "description": "The transcript in the requested format.",
    "model": Transcript,
    "content": {
        "application/json": {"example": example("transcript.json")},
        **{
            media_type: {
                "schema": {"type": "string"},
                "example": example(f"transcript.{'txt' if form == 'text' else form}"),
            }
            for form, media_type in MEDIA_TYPES.items()
            if form != "json"
        },
    },
}
