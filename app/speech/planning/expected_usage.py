"""The expected usage of a plan. Pure.

It is less than the usage that is held, which covers the worst case (`plan.max_usage`).
"""

from math import ceil

from app.kit.records import dataclass
from app.speech.planning.fit_options import estimate_tokens
from app.speech.planning.plan import Plan, PlanInput
from app.speech.usage_bounds import MILLIS, Units, max_context_tokens, max_usage_of_call

# Parts end in the latest good pause of the last 40 % of the longest part (audio/splitting/cuts).
USUAL_FILL = 0.9
SPOKEN_TOKENS_PER_SECOND = 5  # output tokens of fast speech, in any language
CHAT_TOKENS = 15  # input tokens of a chat request beside our own texts


@dataclass(frozen=True, slots=True)
class ExpectedUsage:
    """Expected usage of the calls of a plan, in `parts` that are each rounded up to whole seconds.

    `text_tokens` are the input tokens that are not audio. `each` bounds the usage of one call.
    """

    parts: int
    millis: int
    each: Units
    input_tokens: int = 0
    output_tokens: int = 0
    text_tokens: int = 0

    @property
    def units(self) -> tuple[int, int, int, int]:
        """The billed units, in the order of the parameters of `Tariff.cost`."""
        return self.millis, self.input_tokens, self.output_tokens, self.text_tokens


def expected_usage(request: PlanInput, plan: Plan) -> ExpectedUsage | None:
    """Return the expected usage of a plan, or None where the length of the audio is unknown."""
    if request.seconds is None:
        return None
    parts = 1
    if plan.kind == "split":
        parts = max(1, ceil(request.seconds / (plan.part_seconds * USUAL_FILL)))
    channels = plan.billed_channels
    millis = (ceil(request.seconds) + parts - 1) * MILLIS  # the fractions of the parts are unknown
    bounds = request.model.token_bounds(max_context_tokens(request.context))
    each = max_usage_of_call(ceil(request.seconds / parts) * MILLIS, bounds)
    if bounds is None:
        return ExpectedUsage(parts, millis * channels, each)
    text = estimate_tokens(request.model.prompt) + estimate_tokens(request.context or "")
    text_tokens = (text + CHAT_TOKENS) * parts
    spoken = ceil(request.seconds * SPOKEN_TOKENS_PER_SECOND)
    return ExpectedUsage(
        parts,
        millis * channels,
        each,
        (bounds.audio_tokens(millis) + text_tokens) * channels,
        min(bounds.max_output * parts, spoken) * channels,
        text_tokens * channels,
    )
