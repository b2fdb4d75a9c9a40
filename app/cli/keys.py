"""`asr-gateway keys`: create, list and revoke API keys."""

from datetime import timedelta
from typing import Annotated

import typer

from app.access.keys import NewKey, create_key, list_keys
from app.access.pepper import load_peppers
from app.access.principal import ALL_SCOPES, Scope
from app.access.principals import Principals
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.cli.database import with_database
from app.cli.errors import CommandFailed, UsageError
from app.cli.printing import print_json, print_table
from app.db.database import Database
from app.kit.clock import to_rfc3339, utc_now
from app.settings import Settings

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def print_new_key(
    name: Annotated[str, typer.Argument(help="A name for the key, such as its user or program.")],
    project: Annotated[
        str, typer.Option(help="Project of the key; created if it does not exist.")
    ] = DEFAULT_PROJECT,
    scope: Annotated[list[Scope] | None, typer.Option(help="Permissions (default: all).")] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=3650, help="Days until the key expires (default: never)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it. It is not shown again."""
    if not name.strip():
        raise UsageError("A key needs a name, such as its user or program.")
    settings = Settings()
    pepper = load_peppers(settings.access.peppers, settings.data_dir)[0]
    now = utc_now()

    async def create(db: Database) -> NewKey:
        return await db.write(
            create_key,
            project_id=await db.write(ensure_project, project[:100], now=now),
            name=name[:100],
            scopes=frozenset(scope or ALL_SCOPES),
            pepper=pepper,
            now=now,
            expires_at=None if days is None else now + timedelta(days=days),
        )

    key = with_database(create)
    if as_json:
        print_json({"id": key.id, "key": key.secret}, indent=None)
        return
    print(f"{key.secret}\n")
    print(f"This is key {key.id} of project {project}. It is not shown again: store it safely.")


@app.command("list")
def print_keys(as_json: Json = False) -> None:
    """List all keys, without their secrets."""
    keys = with_database(lambda db: db.read(list_keys))
    if as_json:
        print_json(keys)
        return
    rows = []
    for key in keys:
        state = f"last used {to_rfc3339(key.last_used_at)}" if key.last_used_at else "never used"
        scopes = " ".join(key.scopes)
        state = "revoked" if key.revoked_at else state
        rows.append((key.id, f"{key.prefix}…", key.project, key.name, scopes, state))
    print_table(("id", "key", "project", "name", "scopes", "state"), rows)


@app.command("revoke")
def revoke_and_report(
    key_id: Annotated[str, typer.Argument(help="The key's id, `key_…`.")], as_json: Json = False
) -> None:
    """Revoke a key permanently."""
    if not with_database(lambda db: Principals(db, [], utc_now).revoke(key_id)):
        raise CommandFailed(
            "There is no valid key with this id; `asr-gateway keys list` lists all."
        )
    if as_json:
        print_json({"id": key_id, "revoked": True}, indent=None)
    else:
        print(f"{key_id} is revoked.")
