"""Checks of the data by `asr-gateway doctor`: violated invariants, audio without bytes."""

from collections.abc import AsyncIterator, Sequence

from app.cli.doctor.check import CheckResult, failed, ok, warn
from app.cli.doctor.database import open_if_current
from app.db.time_limits import StatementTimeoutError
from app.jobs.invariants import EXAMPLES, INVARIANTS, find_violations, stored_audio
from app.settings import Settings

INVARIANTS_SECONDS = 8.0
MAX_RECORDINGS = 5_000  # the newest; the check looks for their files

_REMEDY = (
    "Keep a copy of the database. `asr-gateway jobs show ID` has details. Correct the ledger with "
    "the provider's bill (asr-gateway reconcile --bill FILE --apply), and report the defect."
)
_LOST = (
    "Restore the files from a backup of the data folder, or erase these transcriptions: without "
    "its bytes a recording cannot be played or retried."
)


async def check_invariants(settings: Settings) -> AsyncIterator[CheckResult]:
    """Yield a problem for each violated invariant and for recordings without their files."""
    async with open_if_current(settings) as db:
        if db is None:
            return
        try:
            violations = await db.read(find_violations, INVARIANTS_SECONDS)
        except StatementTimeoutError as error:
            remedy = "Try again when the gateway is less busy."
            yield warn("books", f"the check was {error}", remedy)
        else:
            for one in violations:
                examples = _examples(one.examples, one.count)
                yield failed("books", f"not so: {one.invariant}; {examples}", _REMEDY)
            if not violations:
                yield ok("books", f"all {len(INVARIANTS)} invariants hold")
        recordings = await db.read(stored_audio, MAX_RECORDINGS)
    blobs = settings.data_dir / "audio" / "blobs"
    lost = [audio_id for audio_id, key in recordings if not (blobs / key).is_file()]
    if lost:
        examples = _examples(lost[:EXAMPLES], len(lost))
        found = f"the bytes are missing, of {len(recordings)} checked: {examples}"
        yield failed("recordings", found, _LOST)
    elif recordings:
        yield ok("recordings", f"all {len(recordings)} checked are there")


def _examples(ids: Sequence[str], count: int) -> str:
    return f"{count} ({', '.join(ids)}{', …' if count > len(ids) else ''})"
