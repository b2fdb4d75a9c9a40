"""Write `docs/catalogue.md`: the fields of a catalogue file.

python -m tests.support.catalogue_page
"""

from pathlib import Path

from pydantic import BaseModel

from app.speech.catalogue import CatalogueModel, CataloguePrice, RetiredModels

FILE = Path(__file__).parents[2] / "docs" / "catalogue.md"
HEAD = """\
# Fields of a catalogue file

The gateway's models are facts in `app/speech/catalogue.toml`. A file of your own with the same
fields adds models, or replaces those of the same name: `GATEWAY_SPEECH__CATALOGUE=models.toml`. A
field that is not in these tables is an error at start. [models.md](models.md) lists the packaged
models.

```toml
{example}```

The tables `languages`, `formats` and `prompts` give lists and texts a name that models can use.
"""
EXAMPLE = """\
[models."my/model"]
engine = "openai"
upstream_model = "Qwen/Qwen3-ASR-1.7B"
title = "Qwen3-ASR on our own GPU"
part_seconds = 240
languages = ["zh", "en"]
options = ["language", "context"]
source = "the model card"
checked = 2026-11-30

[[models."my/model".prices]]
region = "self-hosted"
unit = "second"
amount = "0"
currency = "CNY"
valid_from = 2026-01-01
source = "our own machine"
"""


def rendered() -> str:
    """Return the text of the file."""
    tables = (
        ("`[models.NAME]`", CatalogueModel),
        ("`[[models.NAME.prices]]`", CataloguePrice),
        ("`[retired.NAME]`", RetiredModels),
    )
    return HEAD.format(example=EXAMPLE) + "".join(
        f"\n## {title}\n\n{_table(model)}" for title, model in tables
    )


def _table(model: type[BaseModel]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        assert field.description, name
        # `call_seconds` has a default that depends on another field.
        is_required = field.is_required() and name not in {"name", "call_seconds"}
        rows.append(f"| `{name}` | {'yes' if is_required else ''} | {field.description} |\n")
    return "| field | required | |\n| --- | --- | --- |\n" + "".join(rows)


if __name__ == "__main__":
    FILE.write_text(rendered())
