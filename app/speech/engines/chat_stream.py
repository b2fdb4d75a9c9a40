"""What a streamed chat completion says, once all of it is here. Pure.

A stream that lacks its end or its usage is a failure whatever text came: nobody could tell half
of the words from all of them, nor say what they cost.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.speech.contract import EngineAnswer, EngineUsage
from app.speech.engines.dashscope_errors import parse_error
from app.speech.engines.wire import (
    CUT_AT_LENGTH,
    garbled,
    member,
    number,
    read_object,
    text_of,
)

DONE = b"[DONE]"
BAD_REQUEST = 400  # what an error inside of a stream is judged as, where its code does not decide
ID_PREFIX = "chatcmpl-"


def read_stream(
    body: bytes, headers: Mapping[str, str], *, language: str | None = None
) -> EngineAnswer:
    """Put the chunks together. Raises EngineError.

    `language` is the one that was asked for: these models say nothing of it.
    """
    chunks = list(_chunks(body))
    reasons = [
        reason for chunk in chunks if (reason := member(chunk, "choices", 0, "finish_reason"))
    ]
    usage = next((c["usage"] for c in reversed(chunks) if isinstance(c.get("usage"), dict)), None)
    if not reasons or usage is None:
        raise garbled("a stream without its finish_reason or its usage")
    deltas = (member(chunk, "choices", 0, "delta", "content") for chunk in chunks)
    named = headers.get("x-request-id") or text_of(chunks[0].get("id")).removeprefix(ID_PREFIX)
    return EngineAnswer(
        text="".join(map(text_of, deltas)).strip(),
        language=language,
        usage=parse_chat_usage(usage),
        request_id=named or None,
        warnings=(CUT_AT_LENGTH,) if reasons[-1] == "length" else (),
        raw={"id": chunks[0].get("id"), "finish_reason": reasons[-1], "usage": usage},
    )


def parse_chat_usage(usage: Mapping[str, Any]) -> EngineUsage:
    """Read what was used. Raises EngineError where a count is missing: it is what is paid for."""
    counts = [number(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    given, made = (None if count is None else int(count) for count in counts)
    if given is None or made is None:
        raise garbled("a usage without its tokens")
    text = int(number(member(usage, "prompt_tokens_details", "text_tokens")) or 0)
    return EngineUsage(None, given, made, min(text, given), usage)


def _chunks(body: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the chunks up to the end that the stream says it has. Raises EngineError."""
    for data in events(body):
        if data.strip() == DONE:
            return
        chunk = read_object(data)
        if chunk is None:
            raise garbled("an event that is not a JSON object")
        if "error" in chunk or ("code" in chunk and "choices" not in chunk):
            raise parse_error(BAD_REQUEST, {}, data)
        yield chunk
    raise garbled("a stream that was cut before its end")


def events(body: bytes) -> Iterator[bytes]:
    """Yield the data of each whole event; what follows the last blank line is none."""
    lines: list[bytes] = []
    for line in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]:
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif not line and lines:
            yield b"\n".join(lines)
            lines = []
