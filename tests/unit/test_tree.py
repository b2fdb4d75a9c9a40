"""Rules of the repository: sizes, imports, readability, and documents that match the code.

Covers: app.error_codes, app.errors, app.speech.warning_codes
"""

import ast
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, get_args

import pytest

from app.error_codes import all_errors
from app.errors import NotFound
from app.jobs.store.runs import DeferReason
from app.main import create_app
from app.settings import Settings
from app.speech.warning_codes import EXPLANATIONS, WarningCode
from tests.support import error_table, warning_table
from tests.support.readability import (
    docstrings,
    is_built_on_a_pronoun,
    names_of_several_modules,
    parse,
    private_functions_used_once,
)
from tests.support.where_tested import covered_by, list_test_modules, modules

ROOT = Path(__file__).parents[2]
APP = sorted((ROOT / "app").rglob("*.py"))
MOST_LINES = 400
MEDIAN_LINES = 120
BOUNDED = {
    "string": {"maxLength", "pattern", "enum", "format", "const"},
    "integer": {"maximum", "enum"},
    "number": {"maximum", "enum"},
    "array": {"maxItems"},
    "object": {"maxProperties", "properties"},
}
METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The OpenAPI document of a gateway with unusual settings."""
    odd = Settings(
        _env_file=None,  # type: ignore[call-arg]
        data_dir=Path("/nowhere"),
        jobs={"wait_seconds": 1},
        audio={"max_upload_bytes": 1, "max_inline_bytes": 1},
        speech={"default_model": "x"},
    )
    found: dict[str, Any] = json.loads(json.dumps(create_app(odd).openapi()))
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield f"{method.upper()} {path}", operation


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def unbounded(schema: dict[str, Any], document: dict[str, Any], where: str) -> Iterator[str]:
    """Yield the parts of a request's schema without a size limit."""
    schema = resolved(schema, document)
    for choice in schema.get("anyOf", []) + schema.get("oneOf", []) + schema.get("allOf", []):
        yield from unbounded(choice, document, where)
    kind = schema.get("type")
    if kind in BOUNDED and not BOUNDED[kind] & schema.keys():
        yield f"{where}: {kind}"
    if isinstance(schema.get("items"), dict):
        yield from unbounded(schema["items"], document, f"{where}[]")
    for name, inner in schema.get("properties", {}).items():
        yield from unbounded(inner, document, f"{where}.{name}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from unbounded(schema["additionalProperties"], document, f"{where}.*")


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def texts() -> Iterator[tuple[str, str]]:
    """Yield every text file that git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file() and not name.endswith((".gz", ".wav", ".flac")):
            yield name, (ROOT / name).read_text(encoding="utf-8", errors="replace")


def test_files_stay_small() -> None:
    sizes = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in APP}
    assert median(sizes.values()) <= MEDIAN_LINES
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}


def test_only_the_command_line_prints() -> None:
    guilty = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in APP
        if "cli" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert guilty == []


def test_comments_have_no_open_tasks() -> None:
    later = re.compile("TO" + "DO|FIX" + "ME|XX" + "X")
    assert [name for name, text in texts() if name.startswith(("app/", "tests/", "migrations/")) and name.endswith(".py") and later.search(text)] == []  # fmt: skip  # noqa: E501


def test_httpx_is_imported_in_app_net_only() -> None:
    speakers = {file for file in APP if "httpx" in imports(file)}
    assert all(file.is_relative_to(ROOT / "app" / "net") for file in speakers)


def test_domains_do_not_import_fastapi_or_starlette() -> None:
    surfaces = {"api", "cli", "main.py", "lifespan.py", "serve.py"}
    for file in APP:
        if not surfaces & set(file.relative_to(ROOT / "app").parts):
            assert not imports(file) & {"fastapi", "starlette"}, file


def test_every_module_has_a_docstring() -> None:
    assert [file for file in APP if file.name != "__init__.py" and not ast.get_docstring(ast.parse(file.read_text()))] == []  # fmt: skip  # noqa: E501


def test_every_error_is_documented() -> None:
    assert error_table.FILE.read_text() == error_table.rendered(), (
        "python -m tests.support.error_table writes it anew"
    )


def test_every_warning_is_documented() -> None:
    assert set(EXPLANATIONS) == set(WarningCode)
    assert warning_table.FILE.read_text() == warning_table.rendered(), (
        "python -m tests.support.warning_table writes it anew"
    )


def test_a_table_is_not_written_without_the_text_of_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(EXPLANATIONS, WarningCode.GAP)
    with pytest.raises(ValueError, match="lacks gap"):
        warning_table.rendered()
    monkeypatch.delattr(NotFound, "public")
    with pytest.raises(ValueError, match="missing for NotFound"):
        error_table.rendered()


def test_warning_codes_are_written_in_one_module_only() -> None:
    # As a warning these two need the enum as well; the words also name other things.
    homonyms = {WarningCode.GAP: "a part's state", WarningCode.REPETITION: "a result's member"}
    literals = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.value}"
        for file in APP
        if file.name != "warning_codes.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in set(WarningCode) - homonyms.keys()
    ]
    assert literals == []
    warnings = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in APP
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "code" and isinstance(value, ast.Constant)
    ]
    assert warnings == []


def test_codes_are_words_and_sentences_end() -> None:
    for code, explanation in EXPLANATIONS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert explanation.endswith("."), code
    for error in all_errors():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)
        assert error.public.rstrip("`").endswith("."), error.code
        assert 400 <= error.status < 600


def test_the_document_in_the_repository_is_the_one_that_is_served(
    document: dict[str, Any],
) -> None:
    written = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert written == document, "make openapi writes it anew; no setting may leak into it"


def test_every_operation_has_a_unique_id_and_a_summary(
    document: dict[str, Any],
) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids)) > 9
    for name, operation in operations(document):
        assert re.fullmatch("[a-z]+[A-Za-z]+", operation["operationId"]), name
        assert operation["summary"], name
        assert operation["tags"], name


def test_every_request_value_has_a_size_limit(document: dict[str, Any]) -> None:
    found = []
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            where = f"{name} ?{parameter['name']}"
            found += unbounded(parameter["schema"], document, where)
            assert parameter.get("description"), where
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            found += unbounded(content["schema"], document, f"{name} {kind}")
    assert found == []


def test_every_answer_has_an_example(document: dict[str, Any]) -> None:
    missing = [
        f"{name} {status} {kind}"
        for name, operation in operations(document)
        for status, response in operation["responses"].items()
        for kind, content in response.get("content", {}).items()
        if kind != "application/octet-stream" and not {"example", "examples"} & content.keys()
    ]
    assert missing == []


def test_every_documented_error_code_exists(document: dict[str, Any]) -> None:
    known = {error.code for error in all_errors()}
    for name, operation in operations(document):
        for response in operation["responses"].values():
            problem = response.get("content", {}).get("application/problem+json", {})
            assert set(problem.get("examples", {})) <= known, name


def test_no_file_names_a_machine_or_a_package_index() -> None:
    private = re.compile(
        r"(?<![\w.])/(?:work|root)/"
        r"|--(?:extra-)?index-url\s+\S|(?:index|find)[-_]links?\s*="
        r"|https?://[\w.-]*(?:pypi|mirror|artifactory|nexus)[\w.-]*/(?:simple|root)"
    )
    guilty = {
        name: found.group()
        for name, text in texts()
        if name != "tests/unit/test_tree.py" and (found := private.search(text))
    }
    assert guilty == {}


def test_every_module_is_in_the_covers_line_of_a_test_module() -> None:
    covered = {name for path in list_test_modules() for name in covered_by(path)}
    assert sorted(covered - set(modules())) == [], "no such module"
    assert sorted(set(modules()) - covered) == [], "add a `Covers:` line to the module's tests"


def test_every_log_event_is_documented() -> None:
    """An event is the first argument of a call on a logger, or of `report` in execution."""
    call = re.compile(
        r"\b(?:_?log\.(?:debug|info|warning|error)|report)\(\s*\"([a-z_]+\.[a-z_.]+)\"",
        re.MULTILINE,
    )
    logged = {name for file in APP for name in call.findall(file.read_text())}
    page = (ROOT / "docs" / "log-events.md").read_text()
    events, _, reasons = page.partition("## Reasons of `job.deferred`")
    first_cell = re.compile(r"^\| `([a-z_.]+)` \|(?! meaning)", re.MULTILINE)
    assert set(first_cell.findall(events)) == logged
    assert set(first_cell.findall(reasons)) == set(get_args(DeferReason))


# Limits that may only fall. The goals are 0.03, 0.08, 20 and 15.
MAX_SHARE_OF_PRONOUN_DOCSTRINGS = 0.03
MAX_SHARE_USED_ONCE = 0.08
MAX_SHARED_NAMES = 5
MAX_MODULES = 15


def test_docstrings_are_built_on_the_nouns_of_the_domain() -> None:
    texts = docstrings(parse(APP))
    found = [place for place, text in texts.items() if is_built_on_a_pronoun(text)]
    assert len(found) / len(texts) <= MAX_SHARE_OF_PRONOUN_DOCSTRINGS, found


def test_few_private_functions_are_used_once() -> None:
    once, count = private_functions_used_once(parse(APP))
    assert len(once) / count <= MAX_SHARE_USED_ONCE, once


def test_few_names_are_defined_in_several_modules() -> None:
    names = names_of_several_modules(parse(APP))
    assert len(names) <= MAX_SHARED_NAMES, names


def test_packages_stay_small() -> None:
    counts = Counter(str(file.parent.relative_to(ROOT)) for file in APP if file.stem != "__init__")
    assert {package: count for package, count in counts.items() if count > MAX_MODULES} == {}
