"""Checks of the data by `asr-gateway doctor`: violated invariants, audio without bytes."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from app.cli.doctor.check import CheckResult, ok, problem, warning
from app.cli.doctor.database import lent
from app.db.statement_timeout import StatementTimeoutError
from app.jobs.invariants import EXAMPLES, INVARIANTS, Violation, find_violations, stored_audio
from app.settings import Settings

BOOKS_SECONDS = 8.0
RECORDINGS = 5_000  # the newest, whose files are looked for

_REMEDY = (
    "Keep a copy of the database as it is; `asr-gateway jobs show ID` tells more. Money is set "
    "right by the upstream's bill (asr-gateway reconcile --bill FILE --apply). Please report it."
)
_LOST = (
    "Bring the files back from a backup of the data folder, or erase these transcriptions: without "
    "its bytes a recording can neither be played nor tried again."
)


async def check_invariants(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield one finding for each violated invariant, or one finding that all hold."""
    async with lent(settings) as db:
        if db is None:
            return
        try:
            broken = await db.read(find_violations, BOOKS_SECONDS)
        except StatementTimeoutError as error:
            remedy = "Ask again when the gateway has less to do."
            yield warning("books", f"the look at them was {error}", remedy)
        else:
            for finding in _told(broken):
                yield finding
        recordings = await db.read(stored_audio, RECORDINGS)
    blobs = settings.data_dir / "audio" / "blobs"
    if recordings:
        yield _files(recordings, blobs)


def _told(broken: Sequence[Violation]) -> Sequence[CheckResult]:
    if not broken:
        return [ok("books", f"all {len(INVARIANTS)} invariants hold")]
    return [
        problem("books", f"not so: {one.invariant}; {_examples(one.examples, one.count)}", _REMEDY)
        for one in broken
    ]


def _files(recordings: Sequence[tuple[str, str]], blobs: Path) -> CheckResult:
    lost = [audio_id for audio_id, key in recordings if not (blobs / key).is_file()]
    if not lost:
        return ok("recordings", f"{len(recordings)} looked for, all there")
    examples = _examples(lost[:EXAMPLES], len(lost))
    return problem("recordings", f"have lost their bytes, of {len(recordings)}: {examples}", _LOST)


def _examples(ids: Sequence[str], count: int) -> str:
    return f"{count} ({', '.join(ids)}{', …' if count > len(ids) else ''})"
