"""What one run has gathered of a recording so far."""

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.audio.allowed import is_cut_short
from app.audio.normalise import Decoding
from app.audio.split import Piece
from app.jobs.calls import Stretch
from app.jobs.runs import Job
from app.speech.merge import PartText
from app.speech.transcript import Segment

DAMAGED = "audio_damaged"


@dataclass(slots=True)
class Progress:
    """The parts heard, in their order. `silent` waits to be stored with the next write."""

    texts: list[PartText] = field(default_factory=list)
    silent: list[Stretch] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    engines: Counter[str] = field(default_factory=Counter)
    done_ms: int = 0
    ended: bool = False

    def add(self, piece: Piece, result: Mapping[str, Any]) -> None:
        """Take in what was heard of a part, now or by an earlier run."""
        self.texts.append(_part_text(piece, result))
        self.warnings += [{"code": "engine", "detail": words} for words in result["warnings"]]
        self.engines[result.get("engine", "")] += 1
        self.done_ms = piece.end_ms

    def said(self, job: Job) -> list[dict[str, Any]]:
        """Return all warnings, among them who transcribed what the job's own engine could not."""
        parts = len(self.texts)
        others = {route.engine: route.tariff.region for route in job.routes[1:]}
        moved = [
            f"{count} of {parts} parts were transcribed by {name} ({others[name]})"
            for name, count in self.engines.items()
            if name in others
        ]
        detail = f"{job.engine} could not be asked: {', '.join(moved)}."
        return [*self.warnings, *([{"code": "failed_over", "detail": detail}] if moved else [])]

    def note_length(self, job: Job, decoding: Decoding) -> None:
        """Take in how the decoding ended: how much there was, and whether some is missing."""
        self.done_ms = max(self.done_ms, round(decoding.seconds * 1000))
        promised = (job.duration_ms or 0) / 1000
        if any(warning["code"] == DAMAGED for warning in job.warnings):
            return  # that it is was seen before it was decoded
        if decoding.damage or is_cut_short(job.audio_format, promised, decoding.seconds):
            detail = f"The file is damaged or cut short: {decoding.seconds:.1f} s could be read."
            self.warnings.append({"code": DAMAGED, "detail": detail})


async def speaking(
    cut: AsyncGenerator[Piece, None], progress: Progress, done: Collection[int]
) -> AsyncGenerator[tuple[Piece, bool], None]:
    """Yield the pieces to be sent, and with each whether it is the last; put silent ones aside.

    Those whose index is in `done` were heard by an earlier run, whatever a detector says today.
    It looks one piece ahead, so that the last part and the end of the job share a commit.
    """
    held: Piece | None = None
    async for piece in cut:
        if not piece.pcm and piece.index not in done:
            progress.silent.append(stretch_of(piece, None))
            continue
        if held is not None:
            yield held, False
        held = piece
    if held is not None:
        yield held, True


def stretch_of(piece: Piece, sha256: str | None) -> Stretch:
    """Return what is stored of a piece: all but its sound."""
    return Stretch(piece.index, piece.start_ms, piece.end_ms, piece.speech_ms, sha256)


def _part_text(piece: Piece, result: Mapping[str, Any]) -> PartText:
    return PartText(
        start_ms=piece.start_ms,
        end_ms=piece.end_ms,
        text=result["text"],
        language=result["language"],
        emotion=result["emotion"],
        segments=tuple(Segment(**segment) for segment in result["segments"]),
        speech_ms=piece.speech_ms,
        done=True,
    )
