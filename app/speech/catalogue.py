"""The catalogue: facts about models, read from `catalogue.toml`. The code holds none of them."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import ModelRetired, UnknownModel
from app.kit.text import did_you_mean
from app.speech.usage_bounds import TokenBounds, max_context_tokens

PACKAGED = Path(__file__).with_name("catalogue.toml")
NOT_SERVED = ("realtime", "streaming")  # WebSocket models; this gateway speaks HTTP


class CataloguePrice(BaseModel):
    """One price of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str = Field(description="Region of the account that the price holds for.")
    unit: Literal["second", "input_token", "output_token", "text_input_token"] = Field(
        description="Unit that is billed. `text_input_token` is an input token that is not audio."
    )
    amount: str = Field(description="Price of one unit, as a decimal number.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code.")
    valid_from: date = Field(description="First day of the price.")
    valid_until: date | None = Field(None, description="Day from which the price no longer holds.")
    source: str = Field(description="Where the price was found.")


class CatalogueModel(BaseModel):
    """One model that a request can name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Name in requests. In a file it is the name of the table.")
    engine: str = Field(
        description="Engine that calls the model: `local`, `dashscope`, `openai`, or another "
        "account of these, such as `dashscope/NAME`."
    )
    upstream_model: str = Field(description="Name of the model in the engine's API.")
    upstream_models: Mapping[str, str] = Field(
        {}, description="Other names of the model in the engine's API, by region."
    )
    title: str = Field(description="Name for people.")
    wire: Literal["", "qwen3", "input-audio", "omni", "file-url", "file-urls"] = Field(
        "",
        description="Request format, where the engine has several (docs/models.md). The models "
        "of `file-url` and `file-urls` are called by tasks, and read the audio from an address.",
    )
    part_seconds: int = Field(
        gt=0, description="Longest part of an audio that is split, in seconds."
    )
    call_seconds: int = Field(
        gt=0, description="Longest audio of one call, in seconds. Default: `part_seconds`."
    )
    call_bytes: int = Field(
        10 << 20, gt=0, description="Largest `data:` URI of one call, in bytes."
    )
    accepts: frozenset[str] = Field(
        frozenset(),
        description="File formats that are sent as received: `flac`, `wav`, `mp3`, `opus`. Other "
        "files are decoded and sent as FLAC.",
    )
    languages: tuple[str, ...] = Field(
        (),
        description="Languages that the model knows; empty: all. A list, or a name from the "
        "table `languages`.",
    )
    options: frozenset[str] = Field(
        frozenset(), description="Request options that the model supports."
    )
    unverified: frozenset[str] = Field(
        frozenset(), description="Supported options that the provider does not document."
    )
    itn_languages: tuple[str, ...] = Field(
        (), description="Languages in which `enable_itn` has an effect; empty: all."
    )
    word_times: bool = Field(default=False, description="The model gives the times of words.")
    context_tokens: int = Field(0, description="Longest `context`, in tokens; 0: none.")
    min_speech_ms: int = Field(
        100, ge=0, description="Parts with less speech than this, in milliseconds, are not sent."
    )
    task_model: str = Field(
        "", description="Model that transcribes by tasks for this one, with `mode=async`."
    )
    diarization_model: str = Field(
        "", description="Model that transcribes by tasks where `diarization_enabled` is set."
    )
    file_formats: frozenset[str] = Field(
        frozenset(),
        description="Of a task: container formats that the service reads. A list, or a name from "
        "the table `formats`.",
    )
    file_bytes: int = Field(2 << 30, gt=0, description="Of a task: largest file, in bytes.")
    sample_rates: tuple[int, int] = Field(
        (1, 384_000), description="Of a task: lowest and highest sample rate, in hertz."
    )
    diarized_seconds: int | None = Field(
        None,
        gt=0,
        description="Of a task: longest audio in which speakers are told apart, in seconds. "
        "Default: `call_seconds`.",
    )
    prompt: str = Field(
        "", description="Instruction to a language model: a text, or a name from `prompts`."
    )
    extra_body: Mapping[str, str] = Field({}, description="More members of every request.")
    opt_in: Literal["", "omni"] = Field(
        "", description="Setting of DashScope that has to be on for the model to be offered."
    )
    is_llm: bool = Field(
        default=False,
        description="The model is a language model and may write words that were not spoken.",
    )
    calls_per_minute: int | None = Field(
        None, gt=0, description="Rate limit of an account; empty: no limit."
    )
    tokens_per_second: float | None = Field(
        None,
        gt=0,
        description="Upper bound of the input tokens of a second of audio. Prices per token need "
        "this and `max_output_tokens`.",
    )
    tokens_per_call: int = Field(
        0, ge=0, description="Upper bound of the input tokens of a call beside audio and prompt."
    )
    max_output_tokens: int | None = Field(
        None, gt=0, description="Upper bound of the output tokens of a call."
    )
    output_tokens_per_second: float = Field(
        0.0, ge=0, description="Added to `max_output_tokens` for every second of audio."
    )
    prices: tuple[CataloguePrice, ...] = Field((), description="Prices, by region and unit.")
    source: str = Field(description="Where these facts were found.")
    checked: date = Field(description="Day on which they were last checked.")

    @property
    def is_task(self) -> bool:
        """Whether a call is a task that is submitted and then polled."""
        return self.wire in {"file-url", "file-urls"}

    def is_priced_in(self, region: str) -> bool:
        """Whether the catalogue has a price of the model in this region."""
        return any(price.region == region for price in self.prices)

    def upstream_in(self, region: str) -> str:
        """Return the name of the model in the engine's API, in this region."""
        return self.upstream_models.get(region, self.upstream_model)

    def token_bounds(self, context: int = 0) -> TokenBounds | None:
        """Return the upper bounds of the model's tokens, or None where they are unknown.

        `context` is the number of tokens that the request's context adds to each call.
        """
        if self.tokens_per_second is None or self.max_output_tokens is None:
            return None
        around = self.tokens_per_call + max_context_tokens(self.prompt)
        return TokenBounds(
            self.tokens_per_second,
            around,
            self.max_output_tokens,
            context,
            self.output_tokens_per_second,
        )


class RetiredModels(BaseModel):
    """Models that their provider has switched off. The table's name may end with `*`.

    A model of that name in an operator's file makes it available again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    successor: str = Field(description="Model to use instead.")
    since: date = Field(description="Day on which the provider switched the model off.")
    source: str = Field(description="Where this was found.")


class _CatalogueFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    languages: dict[str, list[str]] = {}
    formats: dict[str, list[str]] = {}
    prompts: dict[str, str] = {}
    models: dict[str, CatalogueModel] = {}
    retired: dict[str, RetiredModels] = {}

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in each model's name, the lists that it names, and the default of `call_seconds`."""
        lists, formats = data.get("languages", {}), data.get("formats", {})
        prompts = data.get("prompts", {})
        models = {}
        for name, facts in data.get("models", {}).items():
            spoken = facts.get("languages", ())
            spread = lists[spoken] if isinstance(spoken, str) else spoken
            defaults = {"call_seconds": facts.get("part_seconds")}
            read, prompt = facts.get("file_formats", ()), facts.get("prompt", "")
            named = {
                "name": name,
                "languages": spread,
                "file_formats": formats[read] if isinstance(read, str) else read,
                "prompt": prompts.get(prompt, prompt),
            }
            models[name] = {**defaults, **facts, **named}
        return {**data, "models": models}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models by name, in the order of the files; retired names with their successors."""

    models: Mapping[str, CatalogueModel]
    retired: Mapping[str, RetiredModels] = field(default_factory=dict)

    def find(
        self, name: str, is_ready: Callable[[CatalogueModel], bool] = lambda _: True
    ) -> CatalogueModel:
        """Return the model of this name. Case does not count.

        Raises UnknownModel with the most similar name and those that are ready, or ModelRetired
        with the successor.
        """
        if name in self.models:
            return self.models[name]
        folded = name.strip().casefold()
        for known, model in self.models.items():
            if known.casefold() == folded:
                return model
        for pattern, gone in self.retired.items():
            if fnmatchcase(folded, pattern.casefold()):
                detail = f"The provider switched {name[:100]} off. Use {gone.successor}."
                raise ModelRetired(detail, successor=gone.successor)
        ends = [one for one in self.models if one.casefold().endswith(f"/{folded}")]
        similar = f" Did you mean `{ends[0]}`?" if ends else did_you_mean(folded, self.models)
        ready = ", ".join(sorted(one.name for one in self.models.values() if is_ready(one)))
        raise UnknownModel(
            f"There is no model {name[:100]!r}.{similar} Ready here: {ready or 'none'}. "
            "GET /v1/models lists all models."
        )


def load_catalogue(overlay: str = "") -> Catalogue:
    """Read the packaged catalogue and, if one is named, the operator's file, which has precedence.

    Raises pydantic.ValidationError or tomllib.TOMLDecodeError if a file is invalid.
    """
    models: dict[str, CatalogueModel] = {}
    retired: dict[str, RetiredModels] = {}
    for path in (PACKAGED, *([Path(overlay)] if overlay else [])):
        file = _CatalogueFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        models |= file.models
        retired |= file.retired
    return Catalogue(models, retired)
