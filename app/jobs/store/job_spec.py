"""A resolved request: the options that a job honours and the plan by which it is executed.

Both are stored as JSON with the job. `as_json` and `from_json` are written out field by field:
each job is encoded once and decoded at every run and every read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any, Literal

from app.jobs.store.spending_limit import SpendingLimit
from app.kit.records import dataclass
from app.speech.planning.expected_usage import ExpectedUsage
from app.speech.planning.plan import AudioSource, Plan
from app.speech.usage_bounds import TokenBounds


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options that are honoured. An erased job has the defaults.

    `engine_options` are the options that only the engine knows. `raw_rate` is the sample rate of
    audio without a header, `sample_rate` the one that the client says the audio has.
    """

    language: str | None = None
    context: str | None = None
    word_timestamps: bool = False
    engine_options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    include: tuple[str, ...] = ()
    on_gap: Literal["fail", "keep"] = "fail"
    raw_rate: int | None = None
    sample_rate: int | None = None
    strict: bool = False
    spending_limit: SpendingLimit | None = None

    @property
    def keeps_raw(self) -> bool:
        """Whether the engine's raw responses are stored and shown."""
        return "raw" in self.include

    def as_json(self) -> dict[str, Any]:
        return {
            "language": self.language,
            "context": self.context,
            "word_timestamps": self.word_timestamps,
            "engine_options": dict(self.engine_options),
            "include": list(self.include),
            "on_gap": self.on_gap,
            "raw_rate": self.raw_rate,
            "sample_rate": self.sample_rate,
            "strict": self.strict,
            "spending_limit": self.spending_limit and self.spending_limit.as_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "JobOptions":
        if not stored:
            return cls()
        limit = SpendingLimit.from_json(stored["spending_limit"])
        return cls(**{**stored, "include": tuple(stored["include"]), "spending_limit": limit})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan(Plan):
    """The plan of one job: how it is executed, with the facts of the model that it relies on.

    Models change with the catalogue; the plan of an accepted job does not. `tokens` bounds the
    tokens of a call where they are billed. Of a filetrans job: `audio_sources` are the addresses
    that the upstream can be given, the best first; `sample_rate` and `file_bytes` are those of the
    copy that is made where the audio cannot be sent as received.
    """

    upstream_model: str
    min_speech_ms: int
    tokens: TokenBounds | None = None
    audio_sources: tuple[AudioSource, ...] = ()
    sample_rate: int = 0
    file_bytes: int = 0

    def replanned(self, plan: Plan) -> "JobPlan":
        """Return the same job's plan after its audio became known."""
        return replace(self, **_fields_of(plan))

    def as_json(self) -> dict[str, Any]:
        return {
            **_fields_of(self),
            "upstream_model": self.upstream_model,
            "min_speech_ms": self.min_speech_ms,
            "tokens": self.tokens and self.tokens.as_json(),
            "audio_sources": list(self.audio_sources),
            "sample_rate": self.sample_rate,
            "file_bytes": self.file_bytes,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "JobPlan":
        tokens = TokenBounds.from_json(stored["tokens"])
        return cls(**{**stored, "tokens": tokens, "audio_sources": tuple(stored["audio_sources"])})

    @classmethod
    def of(cls, plan: Plan, **facts: Any) -> "JobPlan":
        """Return a plan with the facts of its model; see the fields of this class."""
        return cls(**_fields_of(plan), **facts)


def _fields_of(plan: Plan) -> dict[str, Any]:
    return {
        "kind": plan.kind,
        "part_seconds": plan.part_seconds,
        "reason": plan.reason,
        "may_split": plan.may_split,
        "as_is": plan.as_is,
        "audio_format": plan.audio_format,
        "audio_source": plan.audio_source,
        "billed_channels": plan.billed_channels,
        "model_reason": plan.model_reason,
    }


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """An engine that offers the requested model, and the name of the model there."""

    engine: str
    region: str
    upstream_model: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A resolved request: every option is honoured, or a warning says that it is not.

    `max_ms` and `max_tokens` (in, out) are the most that its calls can use; zero tokens where
    nothing bounds them. `others` are the engines of the further routes. `expected` is the usage
    that is expected of its calls, None where the length of the audio is unknown.
    """

    model: str
    engine: str
    region: str
    mode: str
    options: JobOptions
    plan: JobPlan
    max_ms: int
    max_tokens: tuple[int, int] = (0, 0)
    others: Sequence[EnginePlace] = ()
    expected: ExpectedUsage | None = None
    warnings: Sequence[Mapping[str, Any]] = ()
    priority: int = 0
    reference: str | None = None
    metadata: Mapping[str, str] | None = None
