"""One thing that `asr-gateway doctor` has looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is what to do where it is not well; a warning keeps nothing from working."""

    name: str
    is_well: bool
    found: str
    remedy: str = ""
    is_warning: bool = False

    @property
    def mark(self) -> str:
        if self.is_well:
            return "ok"
        return "warn" if self.is_warning else "WRONG"


def well(name: str, found: str) -> Finding:
    """Return a finding that nothing has to be done about."""
    return Finding(name, is_well=True, found=found)


def wrong(name: str, found: str, remedy: str) -> Finding:
    """Return a finding that keeps the gateway from working."""
    return Finding(name, is_well=False, found=found, remedy=remedy)


def odd(name: str, found: str, remedy: str) -> Finding:
    """Return a finding that somebody should know of, though the gateway works."""
    return Finding(name, is_well=False, found=found, remedy=remedy, is_warning=True)
