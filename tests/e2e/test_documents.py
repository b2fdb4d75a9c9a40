"""The documents are correct: their commands run, generated pages are current, links lead to files.

Each ```sh block is run by a shell, complete and in order, with a real `serve` whose provider is a
simulator; tests/support/gateway_shell.py lists the replacements. A ```console block contains
commands that cannot be run here, and is listed below with the reason.
"""

import asyncio
from pathlib import Path

import pytest

from tests.support import api_tour, catalogue_page, models_page
from tests.support.env_example import names
from tests.support.gateway_shell import gateway_shell
from tests.support.markdown import ROOT, Block, blocks, documents, links, settings

pytestmark = pytest.mark.anyio

TOUR = "docs/api.md"  # its own test runs it
NOT_RUN = {
    ("README.md", "make demo"): "needs a package index; test_demo.py runs what it runs",
    ("docs/deployment.md", "pip install"): "needs a package index",
    ("docs/deployment.md", "docker compose"): "needs a container engine",
    ("docs/deployment.md", "pg_dump"): "needs the tools of PostgreSQL's own version",
}
# Nothing in them is a command; test_adding_an_engine.py runs the python and the toml.
TEXTS = {"json", "http", "js", "ini", "nginx", "text", "python", "toml"}
EVERY = [block for document in documents() for block in blocks(document)]
SHELL = sorted({block.document for block in EVERY if block.language == "sh"} - {TOUR})
# Once there is a key all requests need one: a document that makes one has a gateway to itself.
KEYS = [name for name in SHELL if "keys create" in (ROOT / name).read_text()]
GROUPS = [*([name] for name in KEYS), [name for name in SHELL if name not in KEYS]]


@pytest.mark.parametrize("together", GROUPS, ids=" ".join)
async def test_every_command_runs(together: list[str], tmp_path: Path) -> None:
    async with gateway_shell(tmp_path / "here") as shell:
        for block in [block for document in together for block in blocks(document)]:
            if block.language == "sh":
                done = await asyncio.to_thread(shell.run, block.text)
                said = f"{block.document}:{block.line}\n{done.stdout}\n{done.stderr}"
                assert done.returncode == 0, said


async def test_the_tour_shows_real_answers() -> None:
    written = api_tour.FILE.read_text()
    assert written == await api_tour.rendered(), "python -m tests.support.api_tour writes it anew"


def test_the_catalogue_page_names_every_field() -> None:
    assert catalogue_page.FILE.read_text() == catalogue_page.rendered(), (
        "python -m tests.support.catalogue_page writes it anew"
    )


def test_the_models_page_is_the_catalogue() -> None:
    assert models_page.FILE.read_text() == models_page.rendered(), (
        "python -m tests.support.models_page writes it anew"
    )


def test_console_blocks_are_listed_with_a_reason() -> None:
    unrun = [block for block in EVERY if block.language not in TEXTS | {"sh"}]
    assert {block.language for block in unrun} == {"console"}
    listed = {block: [key for key in NOT_RUN if _is(block, *key)] for block in unrun}
    assert [block for block, keys in listed.items() if len(keys) != 1] == []
    assert len(unrun) == len(NOT_RUN)


def test_documents_have_commands_to_run() -> None:
    assert {"README.md", "docs/deployment.md", "docs/security.md"} <= set(SHELL)
    assert sum(block.text.count("curl ") for block in EVERY if block.language == "sh") > 40


@pytest.mark.parametrize("document", documents())
def test_links_lead_to_files(document: str) -> None:
    here = (ROOT / document).parent
    assert [link for link in links(document) if not (here / link).exists()] == []


@pytest.mark.parametrize("document", documents())
def test_settings_that_are_named_exist(document: str) -> None:
    known = set(names())
    unknown = {
        name
        for name in settings(document) - known
        if not name.startswith("GATEWAY_DASHSCOPE__ACCOUNTS__INTL__")
    }
    assert unknown == set()


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = {f"docs/{link}" for link in links("docs/README.md")}
    assert set(documents()) - listed == {"README.md", "docs/README.md"}


def _is(block: Block, document: str, start: str) -> bool:
    return block.document == document and block.text.startswith(start)
