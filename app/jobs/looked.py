"""What was found of a recording, as the planner and the client want to know it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.audio.normalise import SAMPLE_RATE
from app.audio.probe import Probe
from app.jobs.progress import DAMAGED
from app.speech.catalogue import Model
from app.speech.fit import rate_warning
from app.speech.plan import File, Link, Upload


@dataclass(frozen=True, slots=True)
class Looked:
    """A recording of so many bytes that was looked at.

    Without a format nothing is known but its length.
    """

    found: Probe
    bytes: int

    @property
    def upload(self) -> Upload | None:
        """What may be sent as it is: only what was verified from end to end."""
        found = self.found
        if not found.exact:
            return None
        form = "opus" if found.codec == "opus" else found.format
        return Upload(form, found.channels, self.bytes)

    @property
    def file(self) -> File | None:
        """What it is, for who reads it as it was received; None where that is not known."""
        found = self.found
        if not found.format:
            return None
        return File(found.format, found.channels, found.sample_rate, self.bytes)

    def warnings(self, sample_rate: int | None, *, strict: bool) -> Sequence[dict[str, Any]]:
        """Return what the client, who says that it has this rate, has to be told of it.

        Raises OptionNotSupported where the rate is another and they are `strict`.
        """
        warning = rate_warning(sample_rate, self.found, strict=strict)
        warnings = [] if warning is None else [dict(warning)]
        if self.found.cut_short:
            detail = "The file's own figures say that its end is missing."
            warnings.append({"code": DAMAGED, "detail": detail})
        return warnings


def task_facts(model: Model, links: Sequence[Link]) -> dict[str, Any]:
    """Return what a job's plan keeps for its task: the ways to the recording, and what a copy is.

    Models change with the catalogue; a job that was accepted does not.
    """
    least, most = model.sample_rates
    return {
        "links": list(links),
        "rate": min(max(SAMPLE_RATE, least), most),
        "file_bytes": model.file_bytes,
    }
