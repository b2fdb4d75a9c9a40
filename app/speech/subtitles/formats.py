"""A transcript in the formats of other programs: JSON, plain text, SubRip, WebVTT, LRC, TSV.

Subtitles and the table are made from the same cues (`cues.py`).
"""

from collections.abc import Mapping
from typing import Literal

from app.speech.merge import join_texts
from app.speech.subtitles.cues import SPEAKER_MARK, Cue, make_cues
from app.speech.transcript import Transcript

Format = Literal["json", "text", "srt", "vtt", "lrc", "tsv"]

# TSV as Whisper writes it: whole milliseconds and no quotes, since no text has a tab.
_HEADERS: Mapping[Format, str] = {"vtt": "WEBVTT\n\n", "tsv": "start\tend\ttext\n"}
_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(transcript: Transcript, fmt: Format, *, seconds: float | None = None) -> str:
    """Return the transcript in a format. No cue ends after `seconds`, the length of the audio."""
    if fmt == "json":
        return transcript.model_dump_json()
    if fmt == "text":
        return transcript.text
    blocks = [_HEADERS.get(fmt, "")]
    for number, cue in enumerate(make_cues(transcript.segments, seconds), start=1):
        text = "\n".join(cue.lines)
        if fmt == "srt":
            # SubRip has no escapes. Its readers take a line with this arrow for a cue's times.
            text = text.replace("-->", "\N{RIGHTWARDS ARROW}")
            mark = SPEAKER_MARK if cue.starts_speaker else ""
            blocks.append(f"{number}\n{_times(cue, ',')}\n{mark}{text}\n\n")
        elif fmt == "vtt":
            speaker = " ".join((cue.speaker or "").split()).translate(_VTT_ESCAPES)
            voice = f"<v {speaker}>" if speaker else ""
            blocks.append(f"{_times(cue, '.')}\n{voice}{text.translate(_VTT_ESCAPES)}\n\n")
        elif fmt == "lrc":
            line = join_texts(cue.lines)
            # "[00:01.00][00:02.00]la" is one line at two times, so text in brackets needs a space.
            space = " " if line.startswith("[") else ""
            minutes, centis = divmod(cue.start // 10, 6000)
            time = f"[{minutes:02}:{centis // 100:02}.{centis % 100:02}]"
            blocks.append(f"{time}{space}{line}\n")
        else:
            blocks.append(f"{cue.start}\t{cue.end}\t{join_texts(cue.lines)}\n")
    return "".join(blocks)


def _times(cue: Cue, decimal_mark: str) -> str:
    def time(millis: int) -> str:
        seconds, rest = divmod(millis, 1000)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:02}:{minutes:02}:{seconds:02}{decimal_mark}{rest:03}"

    return f"{time(cue.start)} --> {time(cue.end)}"
