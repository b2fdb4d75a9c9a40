"""Write `docs/models.md`: every model of the packaged catalogue with its limits and prices.

python -m tests.support.models_page
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, get_args

from app.kit.money import format_nano, parse_nano
from app.settings import AccountSettings
from app.speech.catalogue import CatalogueModel, CataloguePrice, load_catalogue
from app.speech.engines.http.provider_account import dashscope_account

FILE = Path(__file__).parents[2] / "docs" / "models.md"
MILLION = 1_000_000
Facts = TypeVar("Facts", bound=Hashable)
HEAD = """\
# Models and regions

This page lists all models of the gateway's catalogue (`app/speech/catalogue.toml`). The facts were
last checked on {checked}, against the providers' documentation, not against their services.
`GET /v1/models` shows which models this gateway can call now. A catalogue file of your own
([catalogue.md](catalogue.md)) adds models and corrects facts; `asr-gateway prices set` sets a price
from a date on.

A request names a model in `model`. The default is `GATEWAY_SPEECH__DEFAULT_MODEL`. If that is
empty, it is `qwen3-asr-flash` with a DashScope key and `local/base` without.

## Regions

A key belongs to one region, `GATEWAY_DASHSCOPE__REGION`, which determines the host and the prices.
A model without a price in that region is rejected with `price_unknown`.

| region | host |
| --- | --- |
{regions}| any, with `GATEWAY_DASHSCOPE__WORKSPACE` | {workspace} |

## Request formats

| format | API that is called |
| --- | --- |
| `local` | none: the model runs in the process of the gateway |
| `qwen3` | DashScope's synchronous API `multimodal-generation`; the request contains the audio |
| `input-audio` | the same API, with `input_audio` in the message and the options beside it |
| `file-url`, `file-urls` | DashScope's file transcription (`audio/asr/transcription`): the \
provider reads the audio from a URL |
| `omni` | DashScope's `compatible-mode/v1/chat/completions`: a language model with the \
instruction to transcribe |
| `openai` | `/v1/chat/completions` or `/v1/audio/transcriptions` of your own server |
"""
KINDS = {
    "One call": "Longer audio is split in pauses into parts of at most `part`. `call` is the "
    "maximum of one call with `split=off`.",
    "Tasks": "File transcription: for long audio, speakers and channels. With `mode=async` a model "
    "of the last column is replaced by this one, if the provider can read the audio.",
    "Qwen-Omni": "Only with `GATEWAY_DASHSCOPE__OMNI=true`. These language models may paraphrase, "
    "and may invent words where there is no speech.",
    "A server of your own": "Only if `GATEWAY_OPENAI__BASE_URL` is set.",
}


def rendered() -> str:
    """Return the text of the file."""
    catalogue = load_catalogue()
    models = list(catalogue.models.values())
    checked = max(model.checked for model in models)
    parts = [HEAD.format(checked=checked, regions=_regions(), workspace=_host(workspace="ID"))]
    for kind, words in KINDS.items():
        of_kind = [model for model in models if _kind(model) == kind]
        parts.append(f"\n## {kind}\n\n{words}\n\n{_facts(of_kind, models)}")
    parts.append(f"\n## Options\n\n{_options(models)}")
    parts.append(f"\n## Prices\n\n{_prices(models)}")
    parts.append(f"\n## Languages\n\n{_languages(models)}")
    gone = [
        f"- `{name}`: not available since {one.since}; use `{one.successor}`\n"
        for name, one in catalogue.retired.items()
    ]
    return "".join([*parts, "\n## Retired\n\n", *gone])


def _regions() -> str:
    names = get_args(AccountSettings.model_fields["region"].annotation)
    return "".join(f"| `{name}` | {_host(region=name)} |\n" for name in names)


def _host(**bundle: Any) -> str:
    return f"`{dashscope_account(AccountSettings(**bundle)).base_url}`"


def _kind(model: CatalogueModel) -> str:
    if model.is_task:
        return "Tasks"
    if model.is_llm:
        return "Qwen-Omni"
    return "A server of your own" if model.engine == "openai" else "One call"


def _facts(models: Sequence[CatalogueModel], every: Sequence[CatalogueModel]) -> str:
    is_task = models[0].is_task
    rows = [
        (
            f"`{model.name}`",
            f"`{model.wire or model.engine}`",
            _span(model.part_seconds),
            *(() if is_task else (_span(model.call_seconds),)),
            str(model.calls_per_minute or ""),
            "yes" if model.word_times else "",
            str(model.context_tokens or ""),
            *((_asked_for_by(model, every),) if is_task else ()),
        )
        for model in models
    ]
    most = ("longest",) if is_task else ("part", "call")
    last = ("for",) if is_task else ()
    names = ("model", "format", *most, "calls a minute", "word times", "context, tokens", *last)
    return _table(names, rows)


def _asked_for_by(task: CatalogueModel, models: Sequence[CatalogueModel]) -> str:
    return ", ".join(f"`{one.name}`" for one in models if one.task_model == task.name)


def _options(models: Sequence[CatalogueModel]) -> str:
    rows = [
        (", ".join(f"`{one.name}`" for one in same), ", ".join(f"`{name}`" for name in options))
        for options, same in _grouped(models, lambda model: tuple(sorted(model.options)))
    ]
    unverified = [
        f"The provider does not document that `{model.name}` supports "
        f"{', '.join(f'`{option}`' for option in sorted(model.unverified))}.\n"
        for model in models
        if model.unverified
    ]
    return _table(("models", "supported options"), rows) + "\n" + "".join(unverified)


def _prices(models: Sequence[CatalogueModel]) -> str:
    rows = [
        (", ".join(f"`{one.name}`" for one in same), *told)
        for prices, same in _grouped(models, lambda model: model.prices)
        for told in _per_region(prices)
    ]
    words = "Per hour of audio, or per million tokens for models with prices per token.\n\n"
    return words + _table(("models", "region", "price", "since", "source"), rows)


def _per_region(prices: Sequence[CataloguePrice]) -> Iterable[tuple[str, ...]]:
    for region, of_region in groupby(prices, lambda price: price.region):
        told = list(of_region)
        price = "; ".join(map(_price, told))
        yield f"`{region}`", price, str(told[0].valid_from), told[0].source


def _price(price: CataloguePrice) -> str:
    nano = parse_nano(price.amount)
    if price.unit == "second":
        return f"{format_nano(nano * 3600)} {price.currency} per hour"
    unit = price.unit.removesuffix("_token").replace("_", " ")
    return f"{format_nano(nano * MILLION)} {price.currency} per million {unit} tokens"


def _languages(models: Sequence[CatalogueModel]) -> str:
    rows = [
        (", ".join(f"`{one.name}`" for one in same), " ".join(languages) or "not listed")
        for languages, same in _grouped(models, lambda model: model.languages)
    ]
    return _table(("models", "languages"), rows)


def _grouped(
    models: Sequence[CatalogueModel], key: Callable[[CatalogueModel], Facts]
) -> Iterable[tuple[Facts, list[CatalogueModel]]]:
    """Return facts with the models that share them, in the catalogue's order."""
    groups: dict[Facts, list[CatalogueModel]] = {}
    for model in models:
        groups.setdefault(key(model), []).append(model)
    return groups.items()


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds} s"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    FILE.write_text(rendered())
