"""The examples of the OpenAPI document are answers that the gateway could give.

Covers: app.api.v1.response.openapi, app.api.v1.request.openapi
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from app.api.v1.response import examples
from app.main import create_app
from app.settings import Settings


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(_env_file=None, data_dir=folder)  # type: ignore[call-arg]
    return create_app(settings).openapi()


def answers(document: dict[str, Any]) -> list[tuple[str, dict[str, Any], Any]]:
    """List every JSON example with its place and its schema."""
    found = []
    for path, item in document["paths"].items():
        for operation in item.values():
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    if "json" not in kind:
                        continue
                    shown = [one["value"] for one in content.get("examples", {}).values()]
                    if "example" in content:
                        shown.append(content["example"])
                    found += [(f"{path} {status}", content["schema"], one) for one in shown]
    return found


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def test_every_example_fits_the_schema_of_its_answer(document: dict[str, Any]) -> None:
    found = answers(document)
    wrong = [
        f"{place}: {error.message}"
        for place, schema, shown in found
        for error in jsonschema_rs.validator_for(
            {**schema, "components": document["components"]}
        ).iter_errors(shown)
    ]
    assert wrong == []
    assert len({place for place, _, _ in found}) > 50


def test_every_example_file_is_used(document: dict[str, Any]) -> None:
    folder = files(examples.__name__)
    names = {file.name for file in folder.iterdir() if Path(file.name).suffix not in {".py", ""}}
    used = str(document)
    # FastAPI leaves null members out of the document.
    assert [n for n in names if repr(without_nulls(examples.example(n))) not in used] == []
    assert len(names) > 15
