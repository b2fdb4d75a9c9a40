"""A part that an engine heard in a loop is asked for once more, in two halves cut in a pause.

The part stays what it was cut as. Each answer is paid and stored as it comes, the first ones as
the part's draft, so that a restarted run goes on where this one was.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from app.audio.normalise import BYTES_PER_MS
from app.audio.split import middle
from app.errors import GatewayError
from app.jobs.execution.commit_part import PartOutcome
from app.jobs.execution.decode import sha256
from app.jobs.store.calls import Answered
from app.jobs.store.durable_write import to_the_end
from app.jobs.store.parts import PartSpan, stored_result
from app.jobs.upstream.engine_errors import is_of_part
from app.speech.engine import PartAudio, Pcm
from app.speech.merge import PartText, merge
from app.speech.repetition import find_loop, share_of_loops
from app.speech.transcript import Segment

log = structlog.get_logger()

Result = Mapping[str, Any]


class Part(Protocol):
    """One part of a job, and what can be done with it."""

    stretch: PartSpan
    partial_result: Result | None

    async def ask(self, stretch: PartSpan, audio: PartAudio) -> Answered:
        """Make a call for all of the part or for a half of it."""

    async def commit(self, became: PartOutcome, answered: Answered | None) -> None:
        """Store what has become of it; a cancelled run has it done to the end."""

    async def pcm(self) -> bytes:
        """Return its sound."""


async def transcribe_part(part: Part, audio: PartAudio) -> None:
    """Ask for a part, again where it came back as a loop, and keep what was heard."""
    partial_result = part.partial_result
    if partial_result is None:
        answered = await part.ask(part.stretch, audio)
        partial_result = await to_the_end(_take_in(part, answered))
    if partial_result is not None:
        await _retry_in_halves(part, partial_result)


async def _take_in(part: Part, answered: Answered) -> Result | None:
    """Keep what was heard of all of a part; return a draft where it is to be asked for again."""
    index, whole = part.stretch.index, stored_result(answered.answer, answered.route.engine)
    if await asyncio.to_thread(find_loop, answered.answer.text) is None:
        await part.commit(PartOutcome(index, whole), answered)
        return None
    log.info("part.loops", part=index)
    cut_ms = await _cut(part)
    if cut_ms is None:
        await part.commit(_keep_original(index, whole), answered)
        return None
    partial_result = {"whole": whole, "cut_ms": cut_ms, "halves": []}
    await part.commit(PartOutcome(index, partial_result=partial_result), answered)
    return partial_result


async def _cut(part: Part) -> int | None:
    """Return where a part may be cut; None where it cannot be, or its sound is not to be had."""
    pcm = await _pcm(part)
    return None if pcm is None else await middle(pcm)


async def _pcm(part: Part) -> bytes | None:
    """Return a part's sound, or None: what was heard is paid, and no reason to lose it."""
    try:
        return await part.pcm()
    except GatewayError as error:
        log.warning("part.no_halves", part=part.stretch.index, code=error.code, reason=error.log)
        return None


async def _retry_in_halves(part: Part, partial_result: Result) -> None:
    pcm, cuts = await _pcm(part), _halves(part.stretch, partial_result["cut_ms"])
    if pcm is None:
        await to_the_end(
            part.commit(_keep_original(part.stretch.index, partial_result["whole"]), None)
        )
        return
    while len(partial_result["halves"]) < len(cuts):
        half = cuts[len(partial_result["halves"])]
        sound = pcm[half.start_ms * BYTES_PER_MS : half.end_ms * BYTES_PER_MS]
        try:
            answered = await part.ask(await _in_recording(part.stretch, half, sound), Pcm(sound))
        except GatewayError as error:
            if not is_of_part(error):
                raise
            await to_the_end(
                part.commit(_keep_original(part.stretch.index, partial_result["whole"]), None)
            )
            return
        partial_result = await to_the_end(_take_in_half(part, partial_result, cuts, answered))


async def _take_in_half(
    part: Part, partial_result: Result, cuts: Sequence[PartSpan], answered: Answered
) -> Result:
    """Keep what was heard of a half, with the last one as the part's result."""
    halves = [*partial_result["halves"], stored_result(answered.answer, answered.route.engine)]
    partial_result = {**partial_result, "halves": halves}
    if len(halves) < len(cuts):
        became = PartOutcome(part.stretch.index, partial_result=partial_result)
    else:
        result = await asyncio.to_thread(_choose, partial_result["whole"], cuts, halves)
        became = PartOutcome(part.stretch.index, result)
    await part.commit(became, answered)
    return partial_result


def _keep_original(index: int, whole: Result) -> PartOutcome:
    return PartOutcome(index, {**whole, "repetition": "alone"})


def _halves(stretch: PartSpan, cut_ms: int) -> tuple[PartSpan, PartSpan]:
    """Return the halves, counted from the part's start."""
    index, length = stretch.index, stretch.length_ms
    return PartSpan(index, 0, cut_ms, cut_ms, ""), PartSpan(
        index, cut_ms, length, length - cut_ms, ""
    )


async def _in_recording(stretch: PartSpan, half: PartSpan, sound: bytes) -> PartSpan:
    start, end = stretch.start_ms + half.start_ms, stretch.start_ms + half.end_ms
    return PartSpan(stretch.index, start, end, half.speech_ms, await sha256(sound))


def _choose(whole: Result, cuts: Sequence[PartSpan], halves: Sequence[Result]) -> Result:
    """Return the halves put together, or the whole where that repeats itself less."""
    together = _together(cuts, halves)
    share = max(share_of_loops(half["text"]) for half in halves)
    kept = {**together, "raw_text": whole["text"]}
    if share == 0:
        return {**kept, "repetition": "mended"}
    if share_of_loops(together["text"]) < share_of_loops(whole["text"]):
        return {**kept, "repetition": "kept"}
    return {**whole, "raw_text": together["text"], "repetition": "kept"}


def _together(cuts: Sequence[PartSpan], halves: Sequence[Result]) -> dict[str, Any]:
    merged = merge(
        [
            PartText(
                cut.start_ms,
                cut.end_ms,
                half["text"],
                half["language"],
                half["emotion"],
                tuple(Segment(**segment) for segment in half["segments"]),
                cut.speech_ms,
            )
            for cut, half in zip(cuts, halves, strict=True)
        ]
    )
    return {
        **halves[0],
        "text": merged.text,
        "language": merged.language,
        "emotion": merged.emotion,
        "segments": [segment.model_dump() for segment in merged.segments],
        "warnings": [words for half in halves for words in half["warnings"]],
    }
