"""The catalogue: facts about models, read from `catalogue.toml` and never written in code."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.errors import ModelRetired, UnknownModel
from app.speech.usage_bounds import TokenFacts, max_context_tokens

PACKAGED = Path(__file__).with_name("catalogue.toml")
NOT_SERVED = ("realtime", "streaming")  # WebSocket models; this gateway speaks HTTP


class CataloguePrice(BaseModel):
    """A price as the catalogue lists it: `amount` of `currency` for one `unit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str
    unit: Literal["second", "input_token", "output_token", "text_input_token"]
    amount: str
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    valid_from: date
    valid_until: date | None = None
    source: str


class Model(BaseModel):
    """One model a customer can name.

    `part_seconds` is how long the parts of a long recording may be, `call_seconds` what one call
    takes at most, and `call_bytes` its data: URI; `accepts` are the forms (see contract.FORMS) in
    which a recording is sent as it was received; what has less speech than `least_speech_ms` is not
    sent; `context_tokens` the longest context (0: none);
    `options` those of the normalised names the model honours, `unproved` those of them of which its
    provider's documents do not say so; `itn_languages` those in which it
    writes figures (none: all); `shape` how it is asked, where its engine has several ways: the last
    two are tasks, for which the upstream reads the recording from an address;
    `filetrans` names the model that does so for this one's customers, `speakers` another one for
    those who want speakers told apart; `files` are the formats that it reads, `file_bytes` the most
    of them, `sample_rates` the least and the most hertz;
    `diarized_seconds` the longest recording in which it tells speakers apart;
    `prompt` what a model that can do more is told to do, and `extras` what else its requests say;
    `opt_in` names the switch without which it is not offered (see `switches`); `is_llm`: it may
    write other words than were spoken;
    `calls_per_minute` what an account is allowed; `upstream_models` what it is called in regions
    where it has another name. The token fields are upper bounds: a price per token counts only
    where they are known, as nothing else can be held.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    engine: str
    upstream_model: str
    upstream_models: Mapping[str, str] = {}
    title: str
    part_seconds: int = Field(gt=0)
    call_seconds: int = Field(gt=0)
    call_bytes: int = Field(10 << 20, gt=0)
    accepts: frozenset[str] = frozenset()
    languages: tuple[str, ...] = ()
    options: frozenset[str] = frozenset()
    unverified: frozenset[str] = frozenset()
    itn_languages: tuple[str, ...] = ()
    word_times: bool = False
    context_tokens: int = 0
    least_speech_ms: int = Field(100, ge=0)
    shape: Literal["", "qwen3", "input-audio", "omni", "file-url", "file-urls"] = ""
    filetrans: str = ""
    speakers: str = ""
    files: frozenset[str] = frozenset()
    file_bytes: int = Field(2 << 30, gt=0)
    sample_rates: tuple[int, int] = (1, 384_000)
    diarized_seconds: int | None = Field(default=None, gt=0)
    prompt: str = ""
    extras: Mapping[str, str] = {}
    opt_in: Literal["", "omni"] = ""
    is_llm: bool = False
    calls_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_second: float | None = Field(default=None, gt=0)
    tokens_per_call: int = Field(default=0, ge=0)
    most_output_tokens: int | None = Field(default=None, gt=0)
    output_tokens_per_second: float = Field(default=0.0, ge=0)
    prices: tuple[CataloguePrice, ...] = ()
    source: str
    checked: date

    @property
    def is_task(self) -> bool:
        """Whether it is asked by a task that is submitted and then polled."""
        return self.shape in {"file-url", "file-urls"}

    def is_priced_in(self, region: str) -> bool:
        """Whether the catalogue has a price of it there."""
        return any(price.region == region for price in self.prices)

    def upstream_in(self, region: str) -> str:
        """Return what the model is called at an upstream of this region."""
        return self.upstream_models.get(region, self.upstream_model)

    def token_facts(self, context: int = 0) -> TokenFacts | None:
        """Return the bounds of its tokens, beside those of a context; None if they are unknown."""
        if self.tokens_per_second is None or self.most_output_tokens is None:
            return None
        around = self.tokens_per_call + max_context_tokens(self.prompt)
        return TokenFacts(
            self.tokens_per_second,
            around,
            self.most_output_tokens,
            context,
            self.output_tokens_per_second,
        )


class Retired(BaseModel):
    """Models that their provider has switched off; their table's name may end with `*`.

    A model of such a name in an operator's file brings it back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    successor: str
    since: date
    source: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    languages: dict[str, list[str]] = {}
    formats: dict[str, list[str]] = {}
    prompts: dict[str, str] = {}
    models: dict[str, Model] = {}
    retired: dict[str, Retired] = {}

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Give each model its name, named lists their members, its prompt, and a longest call."""
        lists, formats = data.get("languages", {}), data.get("formats", {})
        prompts = data.get("prompts", {})
        models = {}
        for name, facts in data.get("models", {}).items():
            spoken = facts.get("languages", ())
            spread = lists[spoken] if isinstance(spoken, str) else spoken
            defaults = {"call_seconds": facts.get("part_seconds")}
            files, prompt = facts.get("files", ()), facts.get("prompt", "")
            named = {
                "name": name,
                "languages": spread,
                "files": formats[files] if isinstance(files, str) else files,
                "prompt": prompts.get(prompt, prompt),
            }
            models[name] = {**defaults, **facts, **named}
        return {**data, "models": models}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models by name, in the order of the files."""

    models: Mapping[str, Model]
    retired: Mapping[str, Retired] = field(default_factory=dict)

    def find(self, name: str) -> Model:
        """Return the model of this name.

        Raises UnknownModel, which names those there are, and ModelRetired, which names the one
        to use instead.
        """
        if name in self.models:
            return self.models[name]
        for pattern, gone in self.retired.items():
            if fnmatchcase(name, pattern):
                words = f"{name[:100]} was switched off by its provider. Use {gone.successor}."
                raise ModelRetired(words, successor=gone.successor)
        raise UnknownModel(
            f"No model is called {name[:100]!r}. Known: {', '.join(sorted(self.models))}."
        )


def load_catalogue(overlay: str = "") -> Catalogue:
    """Read the packaged catalogue, and over it the operator's file if one is named.

    Raises pydantic.ValidationError or tomllib.TOMLDecodeError on a file that is not right.
    """
    models: dict[str, Model] = {}
    retired: dict[str, Retired] = {}
    for path in (PACKAGED, *([Path(overlay)] if overlay else [])):
        file = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        models |= file.models
        retired |= file.retired
    return Catalogue(models, retired)
