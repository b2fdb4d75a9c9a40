"""Provider streams as bytes, in each format, and faults of their transfer."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

USAGE = {
    "input_tokens_details": {"text_tokens": 0},
    "output_tokens_details": {"text_tokens": 6},
    "seconds": 2,
}
CHAT_USAGE = {"prompt_tokens": 42, "completion_tokens": 12, "seconds": 2}


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def native(number: int, body: Any, event: str = "result", status: int = 200) -> bytes:
    return f"id:{number}\nevent:{event}\n:HTTP_STATUS/{status}\ndata:{compact(body)}\n\n".encode()


def qwen3_body(text: str | None, reason: str = "null", usage: Any = USAGE) -> dict[str, Any]:
    noted = [{"type": "audio_info", "language": "zh", "emotion": "happy"}]
    message = {"content": [] if text is None else [{"text": text}], "role": "assistant"}
    message |= {"annotations": noted} if text is not None else {}
    return {
        "output": {"choices": [{"message": message, "finish_reason": reason}]},
        "usage": usage,
        "request_id": "e84128d5",
    }


def qwen3(pieces: Sequence[str], *, whole: bool = False, merged: bool = False) -> list[bytes]:
    """Return the frames of a text: `whole` ones repeat it; the last may hold text and `stop`."""
    texts = ["".join(pieces[: n + 1]) for n in range(len(pieces))] if whole else list(pieces)
    bodies = [qwen3_body(text) for text in texts]
    if merged and texts:
        bodies[-1] = qwen3_body(texts[-1], "stop")
    else:
        bodies.append(qwen3_body(texts[-1] if whole and texts else None, "stop"))
    return [native(number, body) for number, body in enumerate(bodies, 1)]


def input_audio(sentences: Sequence[Sequence[str]]) -> list[bytes]:
    """Return the frames of sentences that grow one after the other."""
    bodies, before = [], ""
    for index, pieces in enumerate(sentences, 1):
        for count in range(1, len(pieces) + 1):
            text, is_end = "".join(pieces[:count]), count == len(pieces)
            times = {"begin_time": index * 1000, "end_time": index * 1000 + 900}
            sentence = {"sentence_id": index, "sentence_end": is_end, "text": text, **times}
            body = {"output": {"sentence": sentence, "text": before + text}, "request_id": "r"}
            bodies.append(body | ({"usage": {"duration": index}} if is_end else {}))
        before += "".join(pieces)
    return [native(number, body) for number, body in enumerate(bodies, 1)]


def chat(pieces: Sequence[str], *, usage: bool = True, done: bool = True) -> list[bytes]:
    def frame(**fields: Any) -> bytes:
        body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "usage": None, **fields}
        return f"data: {compact(body)}\n\n".encode()

    noted = [{"type": "audio_info", "language": "zh", "emotion": "happy"}]
    frames = [frame(choices=[{"index": 0, "delta": {"content": "", "role": "assistant"}}])]
    for piece in pieces:
        delta = {"annotations": noted, "content": piece, "role": None}
        frames.append(frame(choices=[{"index": 0, "delta": delta}]))
    frames.append(frame(choices=[{"index": 0, "delta": {"role": None}, "finish_reason": "stop"}]))
    frames += [frame(choices=[], usage=CHAT_USAGE)] if usage else []
    return [*frames, *([b"data: [DONE]\n\n"] if done else [])]


def refused(form: str, code: str = "DataInspectionFailed") -> bytes:
    said = {"code": code, "message": "canary"}
    return native(2, said, "error", 400) if form != "chat" else f'data: {{"error":{compact(said)}}}\n\n'.encode()  # fmt: skip  # noqa: E501


Frames = Sequence[bytes]

_SHAPES: dict[str, Callable[[bytes], bytes]] = {
    "crlf": lambda frame: frame.replace(b"\n", b"\r\n"),
    "cr": lambda frame: frame.replace(b"\n", b"\r"),
    "comments": lambda frame: b": hello\n\n: again\n" + frame,
    "spaced": lambda frame: frame.replace(b"data:{", b"data: {"),
    "many_lines": lambda frame: frame.replace(b',"usage', b',\ndata:"usage'),
    "unknown_fields": lambda frame: b"x-trace: 1\nnone\n" + frame,
}
HARMLESS = tuple(_SHAPES)


def reshaped(frames: Frames, how: str) -> list[bytes]:
    """Return the same events as different bytes."""
    return [_SHAPES[how](frame) for frame in frames] if how else list(frames)


class StreamFaults:
    """Faults after which a stream must not be accepted as complete."""

    def __init__(self, frames: Frames, form: str, chance: random.Random) -> None:
        self.frames, self.form, self.chance = list(frames), form, chance
        # Without the last of these nothing says that it is all.
        self.needed = len(frames) - (1 if form == "chat" else 0)

    def cut(self) -> list[bytes]:
        raw = b"".join(self.frames)
        return [raw[: self.chance.randrange(len(raw) - 1)]]

    def no_end(self) -> list[bytes]:
        return self.frames[:-1]

    def error(self) -> list[bytes]:
        return [*self.frames[: self.chance.randrange(len(self.frames))], refused(self.form)]

    def torn_json(self) -> list[bytes]:
        at = self.chance.randrange(self.needed)
        torn = self.frames[at].rstrip(b"\n")[: -self.chance.randrange(1, 9)] + b"\n\n"
        return [*self.frames[:at], torn, *self.frames[at + 1 :]]

    def no_usage(self) -> list[bytes]:
        if self.form == "chat":
            return [one for one in self.frames if b'"usage":{' not in one]
        head, _, _ = self.frames[-1].partition(b',"usage":')
        return [*self.frames[:-1], head + b',"request_id":"r"}\n\n']

    def cut_in_letter(self) -> list[bytes]:
        return [b"".join(self.frames[: self.needed])[:-4]]

    def lost_frame(self) -> list[bytes]:
        if self.form == "chat" or len(self.frames) < 3:  # nothing numbers the chunks of a chat
            return self.no_end()
        at = self.chance.randrange(1, len(self.frames) - 1)
        return [*self.frames[:at], *self.frames[at + 1 :]]


HARMFUL = ("cut", "no_end", "error", "torn_json", "no_usage", "cut_in_letter", "lost_frame")


def with_fault(frames: Frames, form: str, how: str, chance: random.Random) -> list[bytes]:
    """Return the stream with the fault."""
    found: list[bytes] = getattr(StreamFaults(frames, form, chance), how)()
    return found


def split(frames: Sequence[bytes], chance: random.Random) -> list[bytes]:
    """Return the same bytes in different chunks."""
    raw = b"".join(frames)
    cuts = (
        sorted(chance.randrange(len(raw) + 1) for _ in range(chance.randrange(12))) if raw else []
    )
    ends = [*cuts, len(raw)]
    return [raw[a:b] for a, b in zip([0, *cuts], ends, strict=True) if a < b]
