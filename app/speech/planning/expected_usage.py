"""What a transcription is expected to use, and when its text is there. Pure.

What is expected is less than what is held: a hold must cover the worst, see `plan.bound`.
"""

from dataclasses import dataclass
from math import ceil

from app.speech.planning.fit_options import estimate_tokens
from app.speech.planning.plan import Plan, PlanInput
from app.speech.usage_bounds import MILLIS, Units, max_context_tokens, max_usage_of_call

# Parts end in the latest good pause of the last 40 % of what fits into one call (audio/cuts).
USUAL_FILL = 0.9
SPOKEN_TOKENS_PER_SECOND = 5  # fast speech, in whatever language; what is said costs tokens out
AROUND_TOKENS = 15  # of a chat's own marks around what we write


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plan's calls are expected to use: `parts` of them, each rounded up to whole seconds.

    `text_tokens` are those of the input tokens that are text. `each` bounds a single call.
    """

    parts: int
    millis: int
    each: Units
    input_tokens: int = 0
    output_tokens: int = 0
    text_tokens: int = 0

    @property
    def units(self) -> tuple[int, int, int, int]:
        """What is paid for, in the order in which `Tariff.cost` takes it."""
        return self.millis, self.input_tokens, self.output_tokens, self.text_tokens


def expect(wish: PlanInput, chosen: Plan) -> Expected | None:
    """Return what is expected of a plan; None where the length is not known."""
    if wish.seconds is None:
        return None
    parts = parts_of(chosen, wish.seconds)
    channels = chosen.billed_channels
    millis = (ceil(wish.seconds) + parts - 1) * MILLIS  # how a cut falls, nobody knows beforehand
    facts = wish.model.token_facts(max_context_tokens(wish.context))
    each = max_usage_of_call(_longest(wish.seconds, parts), facts)
    if facts is None:
        return Expected(parts, millis * channels, each)
    text = estimate_tokens(wish.model.prompt) + estimate_tokens(wish.context or "") + AROUND_TOKENS
    said = min(facts.max_output * parts, ceil(wish.seconds * SPOKEN_TOKENS_PER_SECOND))
    return Expected(
        parts,
        millis * channels,
        each,
        (facts.of_sound(millis) + text * parts) * channels,
        said * channels,
        text * parts * channels,
    )


def parts_of(chosen: Plan, seconds: float) -> int:
    """Return in how many parts so much sound is expected to be sent."""
    if chosen.kind != "split":
        return 1
    return max(1, ceil(seconds / (chosen.part_seconds * USUAL_FILL)))


def _longest(seconds: float, parts: int) -> int:
    """Return the milliseconds of a part where all are alike."""
    return ceil(seconds / parts) * MILLIS
