"""What one run has gathered of a recording so far, and what its client may be told in turn.

Parts may be heard in any order. Of each one `segment` is told, once all parts before it are
finished; an earlier run has told those of the finished parts that the stored chain begins with.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.audio.formats import is_cut_short
from app.audio.normalise import Decoding
from app.audio.split import Piece
from app.error_codes import error_of
from app.errors import GatewayError
from app.jobs.execution.commit_part import Completion, PartOutcome, ProgressUpdate
from app.jobs.store.events import Event
from app.jobs.store.job import Job, KnownPart
from app.jobs.store.parts import PartSpan
from app.speech.merge import PartText
from app.speech.transcript import Segment
from app.speech.warning_codes import DAMAGED, REPETITION


class Progress:
    """The chain of a job's parts, as far as it is cut, and what became of each."""

    def __init__(self, job: Job) -> None:
        self.is_cut = False  # whether the chain is whole
        self.ended = False
        self._job = job
        self._chain: list[PartSpan] = []
        self._silent: set[int] = set()
        self._texts: dict[int, PartText] = {}
        self._gaps: dict[int, str] = {}
        self._notes: dict[int, list[dict[str, Any]]] = {}
        self._warnings: list[dict[str, Any]] = []
        self._engines: Counter[str] = Counter()
        self._rows = {row.index: row for row in job.parts}
        self._told = _leading(job.parts)
        self._stored = len(job.parts)
        self._turn = 0
        self._segments = 0
        self._decoded_ms = 0
        self._done = {
            row.index: row.end_ms - row.start_ms
            for row in job.parts
            if row.index < self._told or row.state in {"done", "gap"}
        }

    def cut(self, stretch: PartSpan) -> bool:
        """Take in the next stretch of the chain; tell whether it is to be sent.

        What is stored of it counts, whatever a detector says today.
        """
        self._chain.append(stretch)
        row = self._rows.get(stretch.index)
        if row is not None and row.result is not None:
            self._heard(stretch, row.result)
        elif row is not None and row.error_code is not None:
            self._given_up(stretch, row.error_code)
        elif stretch.sha256 is None or (row is not None and row.state == "silent"):
            self._silent.add(stretch.index)
        else:
            return True
        return False

    @property
    def only(self) -> PartSpan:
        """The stretch of a recording that is one part."""
        (stretch,) = self._chain
        return stretch

    def partial_result_of(self, stretch: PartSpan) -> Mapping[str, Any] | None:
        """Return what an earlier run has left of a part that it asked for anew."""
        row = self._rows.get(stretch.index)
        return None if row is None else row.partial_result

    def unstored(self, stretch: PartSpan) -> Sequence[PartSpan]:
        """Return the stretches before this one that may not be stored: with them it is a chain."""
        return self._chain[self._stored : stretch.index]

    def note_stored(self, stretch: PartSpan) -> None:
        """Take in that all stretches up to this one are stored."""
        self._stored = max(self._stored, stretch.index + 1)

    def note(self, stretch: PartSpan, became: PartOutcome) -> None:
        """Take in what a part has become."""
        if became.result is not None:
            self._heard(stretch, became.result)
        elif became.error_code is not None:
            self._given_up(stretch, became.error_code)

    def note_length(self, decoding: Decoding) -> None:
        """Take in how the decoding ended: how much there was, and whether some is missing."""
        self._decoded_ms = round(decoding.seconds * 1000)
        promised = (self._job.duration_ms or 0) / 1000
        if any(warning["code"] == DAMAGED for warning in self._job.warnings):
            return  # that it is was seen before it was decoded
        if decoding.damage or is_cut_short(self._job.audio_format, promised, decoding.seconds):
            detail = f"The file is damaged or cut short: {decoding.seconds:.1f} s could be read."
            self.warn(DAMAGED, detail)

    def warn(self, code: str, detail: str) -> None:
        """Say something of the whole recording."""
        self._warnings.append({"code": code, "detail": detail})

    def told(self) -> ProgressUpdate:
        """Return what can be told now; what is returned counts as told."""
        begun = self._turn
        in_turn = self._in_turn()
        segments = [Event("segment", _said_of(number, text)) for number, _, text in in_turn]
        done, whole = self._measured()
        said = {"done_seconds": done / 1000, "total_seconds": whole / 1000}
        passed = self._chain[max(begun, self._stored) : self._turn]
        texts = [(index, text.text) for _, index, text in in_turn]
        return ProgressUpdate(segments, Event("progress", said), done, passed, texts)

    def _measured(self) -> tuple[int, int]:
        """Return how much is done, and of what: at the end that is what there was to hear."""
        cut = self._chain[-1].end_ms if self._chain else 0
        if self.is_complete:
            whole = max(self.done_ms, cut)
            return whole, whole
        done = sum(self._done.values())
        return done, max(self._decoded_ms or self._job.duration_ms or 0, done, cut)

    @property
    def is_complete(self) -> bool:
        """Whether every part is finished and, where anything was to be heard, something was."""
        are_finished = all(self._is_finished(one.index) for one in self._chain[self._turn :])
        return self.is_cut and are_finished and self.why_nothing is None

    @property
    def why_nothing(self) -> GatewayError | None:
        """Why nothing at all was heard, where all that is finished was given up."""
        if not self._gaps or len(self._texts) > len(self._gaps):
            return None
        return error_of(self._gaps[min(self._gaps)])()

    @property
    def texts(self) -> list[PartText]:
        return [self._texts[index] for index in sorted(self._texts)]

    @property
    def done_ms(self) -> int:
        return max(sum(self._done.values()), self._decoded_ms)

    def ending(self, words: Mapping[str, Any]) -> Completion:
        """Return all that the end of the job stores; call it once all is told."""
        return Completion(words, self._said(), self.done_ms)

    def _heard(self, stretch: PartSpan, result: Mapping[str, Any]) -> None:
        self._texts[stretch.index] = _part_text(stretch, result)
        notes = [{"code": "engine_warning", "detail": words} for words in result["warnings"]]
        if looped := result.get("repetition"):
            notes.append(_note("repetition", stretch, REPETITION[looped]))
        self._notes[stretch.index] = notes
        self._engines[result.get("engine", "")] += 1
        self._done[stretch.index] = stretch.length_ms

    def _given_up(self, stretch: PartSpan, code: str) -> None:
        self._gaps[stretch.index] = code
        self._texts[stretch.index] = PartText(
            stretch.start_ms, stretch.end_ms, speech_ms=stretch.speech_ms, done=False
        )
        detail = f"This stretch is missing ({code}): {error_of(code).public}"
        self._notes[stretch.index] = [_note("gap", stretch, detail)]
        self._done[stretch.index] = stretch.length_ms

    def _is_finished(self, index: int) -> bool:
        return index in self._texts or index in self._silent

    def text_told_before(self, stretch: PartSpan) -> str | None:
        """Return the text of a part whose segment an earlier run has told."""
        text = self._texts.get(stretch.index) if stretch.index < self._told else None
        return None if text is None else text.text

    def has_text(self, stretch: PartSpan) -> bool:
        """Tell whether it is known what became of a stretch that holds speech."""
        return stretch.index in self._texts

    def _in_turn(self) -> list[tuple[int, int, PartText]]:
        """Pass on to the first part that is not finished; return those passed and not told yet.

        With each comes its number among the spoken parts, and its index.
        """
        found: list[tuple[int, int, PartText]] = []
        while self._turn < len(self._chain) and self._is_finished(self._turn):
            stretch, text = self._chain[self._turn], self._texts.get(self._turn)
            self._done[stretch.index] = stretch.length_ms
            if text is not None:
                if self._turn >= self._told:
                    found.append((self._segments, stretch.index, text))
                self._segments += 1
            self._turn += 1
        return found

    def _said(self) -> list[dict[str, Any]]:
        """Return all warnings, among them who transcribed what the job's own engine could not."""
        parts = self._engines.total()
        others = {route.engine: route.tariff.region for route in self._job.routes[1:]}
        moved = [
            f"{count} of {parts} parts were transcribed by {name} ({others[name]})"
            for name, count in self._engines.items()
            if name in others
        ]
        notes = [note for index in sorted(self._notes) for note in self._notes[index]]
        detail = f"{self._job.engine} could not be asked: {', '.join(moved)}."
        failover_used = [{"code": "failover_used", "detail": detail}] if moved else []
        return [*self._warnings, *notes, *failover_used]


def stretch_of(piece: Piece, sha256: str | None) -> PartSpan:
    """Return what is stored of a piece: all but its sound."""
    return PartSpan(piece.index, piece.start_ms, piece.end_ms, piece.speech_ms, sha256)


def _leading(rows: Sequence[KnownPart]) -> int:
    """Return how many parts are finished before the first that is not."""
    return next((n for n, row in enumerate(rows) if not row.is_finished), len(rows))


def _note(code: str, stretch: PartSpan, detail: str) -> dict[str, Any]:
    start, end = stretch.start_ms / 1000, stretch.end_ms / 1000
    return {"code": code, "detail": detail, "start": start, "end": end}


def _said_of(number: int, text: PartText) -> dict[str, Any]:
    """Return a `segment` event's data; `number` counts the spoken parts from 0."""
    said = {
        "index": number,
        "start": text.start_ms / 1000,
        "end": text.end_ms / 1000,
        "text": text.text.strip(),
        "language": text.language,
        "emotion": text.emotion,
    }
    return said if text.done else {**said, "gap": True}


def _part_text(stretch: PartSpan, result: Mapping[str, Any]) -> PartText:
    return PartText(
        start_ms=stretch.start_ms,
        end_ms=stretch.end_ms,
        text=result["text"],
        language=result["language"],
        emotion=result["emotion"],
        segments=tuple(Segment(**segment) for segment in result["segments"]),
        speech_ms=stretch.speech_ms,
        done=True,
    )
