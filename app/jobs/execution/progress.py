"""The results that one run has collected, and the events that it publishes in order.

Parts may be answered in any order. The `segment` event of a part is published once all parts before
it are finished; an earlier run has published the events of the finished parts at the beginning of
the stored chain.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.audio.decoding.decode import Decoding
from app.audio.formats import is_cut_short
from app.error_codes import error_of
from app.errors import GatewayError
from app.jobs.execution.commit_part import PartOutcome, ProgressUpdate
from app.jobs.store.events import Event, segment
from app.jobs.store.job import Job
from app.jobs.store.outcome import Completion
from app.jobs.store.parts import PartSpan
from app.speech.merge import PartText
from app.speech.transcript import Segment
from app.speech.warning_codes import REPETITION_DETAILS, WarningCode


class Progress:
    """The chain of a job's parts, as far as it is cut, and the state of each part."""

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
        # Parts at the beginning of the chain whose segments an earlier run has published.
        self._published = next(
            (n for n, row in enumerate(job.parts) if not row.is_finished), len(job.parts)
        )
        self._stored = len(job.parts)
        self._turn = 0
        self._segments = 0
        self._decoded_ms = 0
        self._done = {
            row.index: row.end_ms - row.start_ms
            for row in job.parts
            if row.index < self._published or row.state in {"done", "gap"}
        }

    def add_part(self, span: PartSpan) -> bool:
        """Add the next span to the chain; return whether the part is to be sent.

        A stored outcome of the part takes precedence over the result of the detector.
        """
        self._chain.append(span)
        row = self._rows.get(span.index)
        if row is not None and row.result is not None:
            self._note_result(span, row.result)
        elif row is not None and row.error_code is not None:
            self._note_gap(span, row.error_code)
        elif span.sha256 is None or (row is not None and row.state == "silent"):
            self._silent.add(span.index)
        else:
            return True
        return False

    def partial_result_of(self, span: PartSpan) -> Mapping[str, Any] | None:
        """Return the partial result that an earlier run stored for a part it was repairing."""
        row = self._rows.get(span.index)
        return None if row is None else row.partial_result

    def unstored(self, span: PartSpan) -> Sequence[PartSpan]:
        """Return the spans before this one that may not be stored and complete the chain."""
        return self._chain[self._stored : span.index]

    def mark_stored(self, span: PartSpan) -> None:
        """Note that all spans up to this one are stored."""
        self._stored = max(self._stored, span.index + 1)

    def record(self, span: PartSpan, part_outcome: PartOutcome) -> None:
        """Note the outcome of a part."""
        if part_outcome.result is not None:
            self._note_result(span, part_outcome.result)
        elif part_outcome.error_code is not None:
            self._note_gap(span, part_outcome.error_code)

    def note_length(self, decoding: Decoding) -> None:
        """Note the decoded length, and add a warning where audio is missing or damaged."""
        self._decoded_ms = round(decoding.seconds * 1000)
        promised = (self._job.duration_ms or 0) / 1000
        if any(warning["code"] == WarningCode.AUDIO_DAMAGED for warning in self._job.warnings):
            return  # the damage was found before the audio was decoded
        if decoding.damage or is_cut_short(self._job.audio_format, promised, decoding.seconds):
            whole = f" of {promised:.1f} s" if promised > decoding.seconds else ""
            decoded = f"Only {decoding.seconds:.1f} s{whole} could be decoded."
            detail = f"{decoded} The file may be damaged or incomplete."
            self.warn(WarningCode.AUDIO_DAMAGED, detail)

    def warn(self, code: WarningCode, detail: str) -> None:
        """Add a warning about the whole audio."""
        self._warnings.append({"code": code, "detail": detail})

    def take_update(self) -> ProgressUpdate:
        """Return the events that can be published now, and mark them as published."""
        begun = self._turn
        segments: list[Event] = []
        texts: list[tuple[int, str]] = []
        while self._turn < len(self._chain) and self._is_finished(self._turn):
            span, text = self._chain[self._turn], self._texts.get(self._turn)
            self._done[span.index] = span.length_ms
            if text is not None:
                if self._turn >= self._published:
                    segments.append(segment(self._segments, text))
                    texts.append((span.index, text.text))
                self._segments += 1
            self._turn += 1
        cut_ms = self._chain[-1].end_ms if self._chain else 0
        done_ms = total_ms = max(self.done_ms, cut_ms)
        if not self.is_complete:
            done_ms = sum(self._done.values())
            total_ms = max(self._decoded_ms or self._job.duration_ms or 0, done_ms, cut_ms)
        progress = {"done_seconds": done_ms / 1000, "total_seconds": total_ms / 1000}
        spans = self._chain[max(begun, self._stored) : self._turn]
        return ProgressUpdate(segments, Event("progress", progress), done_ms, spans, texts)

    @property
    def is_complete(self) -> bool:
        """Whether every part is finished and, where there was speech, some part has text."""
        are_finished = all(self._is_finished(one.index) for one in self._chain[self._turn :])
        return self.is_cut and are_finished and self.failure_reason is None

    @property
    def failure_reason(self) -> GatewayError | None:
        """The error of a job without text, where all finished parts were given up."""
        if not self._gaps or len(self._texts) > len(self._gaps):
            return None
        return error_of(self._gaps[min(self._gaps)])()

    @property
    def texts(self) -> list[PartText]:
        return [self._texts[index] for index in sorted(self._texts)]

    @property
    def done_ms(self) -> int:
        return max(sum(self._done.values()), self._decoded_ms)

    def completion(self, words: Mapping[str, Any]) -> Completion:
        """Return all that the end of the job stores; call it once all events are published."""
        parts = self._engines.total()
        others = {route.engine: route.tariff.region for route in self._job.routes[1:]}
        moved = [
            f"{count} of {parts} parts were transcribed by {name} ({others[name]})"
            for name, count in self._engines.items()
            if name in others
        ]
        warnings = [*self._warnings, *(one for n in sorted(self._notes) for one in self._notes[n])]
        if moved:
            detail = f"{self._job.engine} could not be asked: {', '.join(moved)}."
            warnings.append({"code": WarningCode.FAILOVER_USED, "detail": detail})
        return Completion(words, warnings, self.done_ms)

    def _note_result(self, span: PartSpan, result: Mapping[str, Any]) -> None:
        self._texts[span.index] = PartText(
            start_ms=span.start_ms,
            end_ms=span.end_ms,
            text=result["text"],
            language=result["language"],
            emotion=result["emotion"],
            segments=tuple(Segment(**one) for one in result["segments"]),
            speech_ms=span.speech_ms,
            done=True,
        )
        notes = [
            {"code": WarningCode.ENGINE_WARNING, "detail": words} for words in result["warnings"]
        ]
        if looped := result.get("repetition"):
            notes.append(_warning_at(WarningCode.REPETITION, span, REPETITION_DETAILS[looped]))
        self._notes[span.index] = notes
        self._engines[result.get("engine", "")] += 1
        self._done[span.index] = span.length_ms

    def _note_gap(self, span: PartSpan, code: str) -> None:
        self._gaps[span.index] = code
        self._texts[span.index] = PartText(
            span.start_ms, span.end_ms, speech_ms=span.speech_ms, done=False
        )
        detail = f"This span is missing ({code}): {error_of(code).public}"
        self._notes[span.index] = [_warning_at(WarningCode.GAP, span, detail)]
        self._done[span.index] = span.length_ms

    def _is_finished(self, index: int) -> bool:
        return index in self._texts or index in self._silent

    def text_published_before(self, span: PartSpan) -> str | None:
        """Return the text of a part whose segment an earlier run has published."""
        text = self._texts.get(span.index) if span.index < self._published else None
        return None if text is None else text.text

    def has_text(self, span: PartSpan) -> bool:
        """Whether the outcome of a span with speech is known."""
        return span.index in self._texts


def _warning_at(code: WarningCode, span: PartSpan, detail: str) -> dict[str, Any]:
    start, end = span.start_ms / 1000, span.end_ms / 1000
    return {"code": code, "detail": detail, "start": start, "end": end}
