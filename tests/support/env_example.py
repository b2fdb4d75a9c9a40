"""Write `.env.example`: every setting with its description and default, grouped by domain.

python -m tests.support.env_example
"""

import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.settings import Settings

FILE = Path(__file__).parents[2] / ".env.example"
WIDTH = 98
HEAD = """\
# Every setting of the gateway, with its default. To change settings, copy this file to `.env` and
# remove `# ` from the lines that you change. Environment variables take precedence over the file.
"""


def rendered() -> str:
    """Return the text of the file."""
    blocks = [HEAD]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines = "".join(
                _entry(f"{name}__{inner}", of)
                for inner, of in field.annotation.model_fields.items()
            )
            blocks.append(f"# -- {name} {'-' * (WIDTH - len(name) - 6)}\n\n{lines}".rstrip() + "\n")
        else:
            blocks.append(_entry(name, field).rstrip() + "\n")
    return "\n".join(blocks)


def names() -> list[str]:
    """Return the names of the environment variables."""
    return [
        line[2:].partition("=")[0] for line in rendered().splitlines() if line[2:10] == "GATEWAY_"
    ]


def _entry(name: str, field: FieldInfo) -> str:
    assert field.description, name
    sentence = textwrap.fill(field.description, WIDTH, initial_indent="# ", subsequent_indent="# ")
    default = _shown(field.get_default(call_default_factory=True))
    return f"{sentence}\n# GATEWAY_{name.upper()}={default}\n\n"


def _shown(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return ",".join(value)
        case list() | tuple():
            return ",".join(map(_shown, value))
        case float():
            return f"{value:g}"
    return str(value)


if __name__ == "__main__":
    FILE.write_text(rendered())
