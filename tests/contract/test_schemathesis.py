"""Every answer conforms to the OpenAPI document, for valid and invalid requests.

Schemathesis generates requests from the document and sends them to the real gateway on a loopback
socket. SCHEMATHESIS_SEED repeats a run, SCHEMATHESIS_EXAMPLES limits the number of requests.

Covers: app.access.pepper, app.kit.secrets, app.serve
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis import AuthContext, Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.access.pepper import load_peppers
from app.access.principal import Scope
from app.access.projects import DEFAULT_PROJECT, ensure_project
from app.access.tables import api_key
from app.db.migrate import open_database
from app.kit.clock import utc_now
from app.kit.ids import new_id
from app.kit.secrets import hash_key, mint_key
from app.main import create_app
from app.serve import GuardedConfig, GuardedServer, bind
from app.settings import Settings
from tests.support.gateway import settings_for, speech
from tests.support.scripted_engine import ScriptedEngine

SEED = int(os.environ.get("SCHEMATHESIS_SEED", "20261121"))
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "100"))
TIMEOUT_SECONDS = 15
FRAMING = {"transfer-encoding", "content-length", "connection", "upgrade"}
KEY = mint_key()


class AtHome(ScriptedEngine):
    """Replaces the local engine, under the model name of the document's examples."""

    name = "local"
    region = "local"
    remote = False


async def let_in(key: str, limits: Settings) -> None:
    """Store the key: without any key no request needs one."""
    (pepper,) = load_peppers(limits.access.peppers, limits.data_dir)

    def keep(tx: sa.Connection) -> None:
        row = {
            "id": new_id("key"),
            "project_id": ensure_project(tx, DEFAULT_PROJECT, now=utc_now()),
            "name": "schemathesis",
            "prefix": "",
            "hash": hash_key(pepper, key),
            "scopes": list(Scope),
            "created_at": utc_now(),
        }
        tx.execute(sa.insert(api_key).values(row))

    async with open_database(limits.database_url) as db:
        await db.write(keep)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[str]:
    """The URL of a gateway with transcriptions."""
    folder = tmp_path_factory.mktemp("contract")
    limits = settings_for(
        f"sqlite:///{folder / 'gateway.db'}",
        folder,
        server={"port": 0, "shutdown_seconds": 2},
        fetch={"enabled": False},  # made-up links lead nowhere, slowly
    )
    asyncio.run(let_in(KEY, limits))
    bearer = {"Authorization": f"Bearer {KEY}"}
    app = create_app(limits, lambda *_: [ScriptedEngine(), AtHome()])
    sys.stdout.write(f"SCHEMATHESIS_SEED={SEED} SCHEMATHESIS_EXAMPLES={EXAMPLES}\n")
    with bind(limits.server) as bound:
        server = GuardedServer(GuardedConfig(app, limits.server))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        host, port = bound.getsockname()
        address = f"http://{host}:{port}"
        for start in (0, 2):
            file = {"file": ("a", speech(1, start=start))}
            sent = httpx.post(f"{address}/v1/transcriptions", files=file, headers=bearer)
            assert sent.status_code == 200
        yield address
        server.should_exit = True
        thread.join(TIMEOUT_SECONDS)
        assert not thread.is_alive()


contract = schemathesis.openapi.from_dict(
    create_app(settings_for("sqlite:///unused.db", Path("unused"))).openapi()
)


@contract.auth()
class Bearer:
    """Sends the key, unless a check omits it on purpose."""

    def get(self, _case: Case, _context: AuthContext) -> str:
        return KEY

    def set(self, case: Case, key: str, _context: AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {key}"


# The gateway in the other thread draws lots of its own (PgQueuer's buffers do) meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@contract.parametrize()
@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_conforms_to_the_openapi_document(case: Case, served: str) -> None:
    # How a request is framed is its client's matter: a parser refuses it before any route is asked.
    for name in [name for name in case.headers if name.lower() in FRAMING]:
        del case.headers[name]
    # A made-up recording is not one, so a well-formed request may well be refused.
    case.call_and_validate(base_url=served, excluded_checks=[positive_data_acceptance], timeout=30)
