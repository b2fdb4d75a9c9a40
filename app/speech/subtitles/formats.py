"""A transcript as other programs read it: JSON, plain text, SubRip, WebVTT, LRC, and a table.

Subtitles and the table are made of the same cues (`cues.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from app.speech.merge import join
from app.speech.subtitles.cues import TURN, Cue, cues
from app.speech.transcript import Transcript

Form = Literal["json", "text", "srt", "vtt", "lrc", "tsv"]

_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(transcript: Transcript, form: Form, *, seconds: float | None = None) -> str:
    """Return the transcript in one of the forms; no cue stands past the recording's `seconds`."""
    if form == "json":
        return transcript.model_dump_json()
    if form == "text":
        return transcript.text
    return _WRITERS[form](cues(transcript.segments, seconds))


def _srt(made: Sequence[Cue]) -> str:
    return "".join(
        f"{number}\n{_stamp(cue.start, ',')} --> {_stamp(cue.end, ',')}\n{_srt_lines(cue)}\n\n"
        for number, cue in enumerate(made, start=1)
    )


def _srt_lines(cue: Cue) -> str:
    # SubRip has no escapes, and its readers take a line with this arrow for a new cue's times.
    text = "\n".join(cue.lines).replace("-->", "\N{RIGHTWARDS ARROW}")
    return f"{TURN}{text}" if cue.opens_turn else text


def _vtt(made: Sequence[Cue]) -> str:
    blocks = (
        f"{_stamp(cue.start, '.')} --> {_stamp(cue.end, '.')}\n{_vtt_lines(cue)}\n\n"
        for cue in made
    )
    return "WEBVTT\n\n" + "".join(blocks)


def _vtt_lines(cue: Cue) -> str:
    text = "\n".join(cue.lines).translate(_VTT_ESCAPES)
    speaker = " ".join((cue.speaker or "").split()).translate(_VTT_ESCAPES)
    return f"<v {speaker}>{text}" if speaker else text


def _lrc(made: Sequence[Cue]) -> str:
    return "".join(f"{_lrc_stamp(cue.start)}{_lrc_line(cue)}\n" for cue in made)


def _lrc_line(cue: Cue) -> str:
    line = join(cue.lines)
    # "[00:01.00][00:02.00]la" is one line sung twice: a bracket of the text must stand apart.
    return f" {line}" if line.startswith("[") else line


def _tsv(made: Sequence[Cue]) -> str:
    """Write what Whisper does: a head, whole milliseconds; no quotes, for no text has a tab."""
    rows = (f"{cue.start}\t{cue.end}\t{join(cue.lines)}\n" for cue in made)
    return "start\tend\ttext\n" + "".join(rows)


def _stamp(millis: int, point: str) -> str:
    seconds, rest = divmod(millis, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{rest:03}"


def _lrc_stamp(millis: int) -> str:
    minutes, centis = divmod(millis // 10, 6000)
    return f"[{minutes:02}:{centis // 100:02}.{centis % 100:02}]"


_WRITERS: Mapping[Form, Callable[[Sequence[Cue]], str]] = {
    "srt": _srt,
    "vtt": _vtt,
    "lrc": _lrc,
    "tsv": _tsv,
}
