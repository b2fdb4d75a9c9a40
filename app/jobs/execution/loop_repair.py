"""Repair of parts in which the engine repeated itself: they are asked again in two halves.

The part keeps its span; it is cut in a pause for the two calls only. Each answer is paid for and
committed as it comes, the earlier ones as the part's partial result, so that a restarted run
continues from them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from app.audio.pcm import BYTES_PER_MS, sha256_hex
from app.errors import GatewayError
from app.jobs.execution.commit_part import PartOutcome
from app.jobs.execution.job_run import PartRun
from app.jobs.store.calls import Answered
from app.jobs.store.durable_write import shielded
from app.jobs.store.parts import PartSpan, stored_result
from app.jobs.upstream.engine_errors import is_of_part
from app.kit.log import log
from app.speech.engine import Pcm
from app.speech.merge import PartText, merge_parts
from app.speech.repetition import find_loop, share_of_loops
from app.speech.transcript import Segment

SMALL_TEXT_CHARACTERS = 4_000  # texts up to here are searched on the event loop, in microseconds


Result = Mapping[str, Any]


async def transcribe_part(part: PartRun) -> None:
    """Transcribe and commit one part, or commit that it stays a gap where the job keeps gaps.

    Raises GatewayError, Deferred, StaleRun, CallsStopped and DatabaseUnavailable.
    """
    try:
        partial_result = part.partial_result
        if partial_result is None:
            answered = await part.call(part.span, part.audio)
            partial_result = await shielded(_commit_answer(part, answered))
        if partial_result is not None:
            await _retry_in_halves(part, partial_result)
    except GatewayError as error:
        if part.run.job.options.on_gap != "keep" or not is_of_part(error):
            raise
        await shielded(part.commit(PartOutcome(part.span.index, error_code=error.code), None))


async def _commit_answer(part: PartRun, answered: Answered) -> Result | None:
    """Commit the answer for a whole part; return the partial result of a part to be repaired."""
    index, whole = part.span.index, stored_result(answered.answer, answered.route.engine)
    text = answered.answer.text
    if len(text) <= SMALL_TEXT_CHARACTERS:
        loop = find_loop(text)
    else:
        loop = await asyncio.to_thread(find_loop, text)
    if loop is None:
        await part.commit(PartOutcome(index, whole), answered)
        return None
    log.info("part.repetition", part=index)
    pcm = await _decode(part)
    from app.audio.splitting.split import middle  # noqa: PLC0415 - with numpy, 17 MB

    cut_ms = None if pcm is None else await middle(pcm, part.detectors)
    if cut_ms is None:
        await part.commit(_keep_original(index, whole), answered)
        return None
    partial_result = {"whole": whole, "cut_ms": cut_ms, "halves": []}
    await part.commit(PartOutcome(index, partial_result=partial_result), answered)
    return partial_result


async def _decode(part: PartRun) -> bytes | None:
    """Return the part's PCM; None where it cannot be decoded, as its answer is paid for already."""
    try:
        return await part.decode()
    except GatewayError as error:
        log.warning("part.halves_failed", part=part.span.index, code=error.code, reason=error.log)
        return None


async def _retry_in_halves(part: PartRun, partial_result: Result) -> None:
    """Call an engine for the halves of a part that have no answer yet, and complete the part."""
    index, cut_ms, end_ms = part.span.index, partial_result["cut_ms"], part.span.length_ms
    # Times count from the part's start.
    cuts = [
        PartSpan(index, 0, cut_ms, cut_ms, ""),
        PartSpan(index, cut_ms, end_ms, end_ms - cut_ms, ""),
    ]
    original = _keep_original(index, partial_result["whole"])
    pcm = await _decode(part)
    if pcm is None:
        await shielded(part.commit(original, None))
        return
    while len(partial_result["halves"]) < len(cuts):
        half = cuts[len(partial_result["halves"])]
        audio = pcm[half.start_ms * BYTES_PER_MS : half.end_ms * BYTES_PER_MS]
        start_ms = part.span.start_ms
        span = PartSpan(
            index,
            start_ms + half.start_ms,
            start_ms + half.end_ms,
            half.speech_ms,
            await asyncio.to_thread(sha256_hex, audio),
        )
        try:
            answered = await part.call(span, Pcm(audio))
        except GatewayError as error:
            if not is_of_part(error):
                raise
            await shielded(part.commit(original, None))
            return
        partial_result = await shielded(_commit_half(part, partial_result, cuts, answered))


async def _commit_half(
    part: PartRun, partial_result: Result, cuts: Sequence[PartSpan], answered: Answered
) -> Result:
    """Commit the answer for a half; the answer for the last half completes the part."""
    halves = [*partial_result["halves"], stored_result(answered.answer, answered.route.engine)]
    partial_result = {**partial_result, "halves": halves}
    if len(halves) < len(cuts):
        part_outcome = PartOutcome(part.span.index, partial_result=partial_result)
    else:
        result = await asyncio.to_thread(_better_result, partial_result["whole"], cuts, halves)
        part_outcome = PartOutcome(part.span.index, result)
    await part.commit(part_outcome, answered)
    return partial_result


def _keep_original(index: int, whole: Result) -> PartOutcome:
    return PartOutcome(index, {**whole, "repetition": "alone"})


def _better_result(whole: Result, cuts: Sequence[PartSpan], halves: Sequence[Result]) -> Result:
    """Return the merged halves, or the whole where it repeats itself less."""
    merged = merge_parts(
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
    result = {
        **halves[0],
        "text": merged.text,
        "language": merged.language,
        "emotion": merged.emotion,
        "segments": [segment.model_dump() for segment in merged.segments],
        "warnings": [text for half in halves for text in half["warnings"]],
        "raw_text": whole["text"],
    }
    if max(share_of_loops(half["text"]) for half in halves) == 0:
        return {**result, "repetition": "mended"}
    if share_of_loops(merged.text) < share_of_loops(whole["text"]):
        return {**result, "repetition": "kept"}
    return {**whole, "raw_text": merged.text, "repetition": "kept"}
