"""`asr-gateway keys`: create, list and revoke API keys."""

import asyncio
import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

import typer

from app.access.keys import KeyInfo, NewKey, create_key, list_keys
from app.access.pepper import load_peppers
from app.access.principal import ALL_SCOPES, Scope
from app.access.principals import Principals
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.cli.errors import CommandFailed, UsageError
from app.cli.table import show
from app.db.migrate import open_database
from app.kit.clock import to_rfc3339, utc_now
from app.settings import Settings

app = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What or whom the key is for.")],
    project: Annotated[str, typer.Option(help="Whose key; made if new.")] = DEFAULT_PROJECT,
    scope: Annotated[list[Scope] | None, typer.Option(help="Permissions (default: all).")] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=3650, help="Days until the key expires (default: never)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it. It is not shown again."""
    if not name.strip():
        raise UsageError("A key needs a name: what or whom it is for.")
    made = asyncio.run(_create(name[:100], project[:100], frozenset(scope or ALL_SCOPES), days))
    if as_json:
        print(json.dumps({"id": made.id, "key": made.secret}))
        return
    print(f"{made.secret}\n")
    print(f"This is key {made.id} of project {project}. It is shown only now; keep it safe.")


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List all keys, without their secrets."""
    found = asyncio.run(_list())
    if as_json:
        print(json.dumps([_plain(key) for key in found], indent=2))
        return
    show(
        ("id", "key", "project", "name", "scopes", "state"),
        [
            (key.id, f"{key.prefix}…", key.project, key.name, " ".join(key.scopes), _state(key))
            for key in found
        ],
    )


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, `key_…`.")], as_json: Json = False
) -> None:
    """Revoke a key permanently."""
    if not asyncio.run(_revoke(key_id)):
        raise CommandFailed(
            "There is no valid key of this id; `asr-gateway keys list` shows them all."
        )
    print(json.dumps({"id": key_id, "revoked": True}) if as_json else f"{key_id} is revoked.")


def _state(key: KeyInfo) -> str:
    if key.revoked_at:
        return "revoked"
    return f"last used {to_rfc3339(key.last_used_at)}" if key.last_used_at else "never used"


def _plain(key: KeyInfo) -> dict[str, object]:
    return {
        name: to_rfc3339(value) if isinstance(value, datetime) else value
        for name, value in asdict(key).items()
    }


async def _create(name: str, project: str, scopes: frozenset[Scope], days: int | None) -> NewKey:
    settings = Settings()
    pepper = load_peppers(settings.access.peppers, settings.data_dir)[0]
    now = utc_now()
    async with open_database(settings.database_url) as db:
        return await db.write(
            create_key,
            project_id=await db.write(ensure_project, project, now=now),
            name=name,
            scopes=scopes,
            pepper=pepper,
            now=now,
            expires_at=None if days is None else now + timedelta(days=days),
        )


async def _list() -> list[KeyInfo]:
    async with open_database(Settings().database_url) as db:
        return await db.read(list_keys)


async def _revoke(key_id: str) -> bool:
    async with open_database(Settings().database_url) as db:
        return await Principals(db, [], utc_now).revoke(key_id)
