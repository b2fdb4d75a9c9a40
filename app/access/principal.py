"""The caller of a request: a project, its key and the scopes of the key."""

from dataclasses import dataclass
from enum import StrEnum

from app.errors import ScopeMissing


class Scope(StrEnum):
    TRANSCRIBE = "transcribe"  # send audio, delete own transcriptions
    READ = "read"  # transcriptions, audio, models
    USAGE = "usage"  # used seconds and costs


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """One caller. `key_id` is None while the service runs open on loopback."""

    project_id: str
    key_id: str | None
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raise ScopeMissing unless the caller has this scope."""
        if scope not in self.scopes:
            raise ScopeMissing(f"This key lacks the scope `{scope}`.", scope=str(scope))
