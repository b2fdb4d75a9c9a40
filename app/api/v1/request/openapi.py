"""The request bodies of the OpenAPI document. FastAPI cannot derive them: no model parses them."""

from typing import Any

from app.net.urls import MAX_URL_CHARS
from app.settings import AudioSettings
from app.speech.options import Options

_LINK: dict[str, Any] = {
    "url": {
        "type": "string",
        "maxLength": MAX_URL_CHARS,
        "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
        "description": "A link to the recording, which is fetched after the transcription is "
        "accepted. It must work without a login and lead to the file itself.",
        "examples": ["https://example.org/speech.mp3"],
    }
}


_LENGTH: dict[str, Any] = {
    "seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        # The longest recording that a gateway accepts by default.
        "maximum": AudioSettings.model_fields["max_seconds"].default,
        "description": "The length of a recording that is not sent.",
        "examples": [3600],
    }
}


def _body(source: dict[str, Any]) -> dict[str, Any]:
    """Describe a body with exactly one recording or link, and with the options."""
    ways = {**source, **_LINK}
    options: dict[str, Any] = Options.model_json_schema()["properties"]
    for schema in options.values():
        schema.pop("title", None)
    return {
        "type": "object",
        "oneOf": [{"required": [way]} for way in ways],
        "properties": {**ways, **options},
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
    """Describe a request as a form and as JSON. `more` are alternatives to a recording."""
    fields = _body({**_FILE, **more})
    # Pages that show a form fill it with the examples.
    fields["properties"] = {
        name: {key: value for key, value in schema.items() if key != "examples"}
        for name, schema in fields["properties"].items()
    }
    form = {
        "schema": fields,
        # Each of these is a JSON object in one field; lists may repeat their field.
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
