"""`doctor` reports each deliberate misconfiguration with its remedy, and nothing else.

Covers: app.cli.doctor.command, app.cli.doctor.database, app.cli.doctor.invariants,
app.cli.doctor.machine, app.cli.doctor.models, app.cli.doctor.server, app.jobs.invariants,
app.speech.engines.dashscope.account
"""

import asyncio
import json
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.db.migrate import open_database
from app.jobs.invariants import stored_audio
from app.speech.engine import Billed
from tests.simulator import ProviderSimulator
from tests.support.command import call
from tests.support.postgres import Databases
from tests.support.scenario import Scenario, failure

pytestmark = pytest.mark.anyio

MOST_SECONDS = 20.0  # for the whole command, with any problem
INTL = "ap-southeast-1"
NOBODY = 9  # a loopback port without a listener


@dataclass
class Patient:
    """A gateway's folder and settings, correct until a test changes something."""

    folder: Path
    simulator: ProviderSimulator
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.data / "gateway.db"

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    async def examined(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Return the exit code and the problems and warnings, by name."""
        ours = {
            "DATA_DIR": str(self.data),
            "AUDIO__MIN_FREE_BYTES": "0",
            "SERVER__PORT": "0",
            "DASHSCOPE__API_KEY": self.simulator.key,
            "DASHSCOPE__BASE_URL": self.simulator.url,
            **self.settings,
        }
        environment = {f"GATEWAY_{name}": value for name, value in ours.items()}
        began = time.monotonic()
        ended = await asyncio.to_thread(
            lambda: call("doctor", "--json", cwd=self.folder, environment=environment)
        )
        assert time.monotonic() - began < MOST_SECONDS
        assert self.simulator.key not in ended.stdout
        told = json.loads(ended.stdout)
        assert told["works"] is (ended.returncode == 0)
        findings = [one for one in told["findings"] if one["status"] != "ok"]
        assert all(one["remedy"] for one in findings)
        return ended.returncode, {one["name"]: one for one in findings}


@pytest.fixture
async def patient(tmp_path: Path, migrated_sqlite: Path) -> Any:
    async with ProviderSimulator(regions=["cn-beijing", INTL]) as simulator:
        patient = Patient(tmp_path, simulator)
        patient.data.mkdir()
        shutil.copy(migrated_sqlite, patient.database)
        yield patient


@dataclass(frozen=True)
class Planted:
    """A change of a correct gateway, and the expected report."""

    plant: Callable[[Patient], object]
    name: str
    found: str
    remedy: str
    is_warning: bool = False


def sets(**settings: str) -> Callable[[Patient], object]:
    return lambda patient: patient.settings.update(settings)


def no_program(patient: Patient) -> None:
    program = patient.folder / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o600)
    patient.settings["AUDIO__FFMPEG"] = str(program)


def anothers_key(patient: Patient) -> None:
    patient.settings["DASHSCOPE__API_KEY"] = patient.simulator.key_of(INTL)


def unpriced(patient: Patient) -> None:
    """A model without a price in the region of the key."""
    patient.settings |= {
        "DASHSCOPE__API_KEY": patient.simulator.key_of(INTL),
        "DASHSCOPE__BASE_URL": patient.simulator.urls[INTL],
        "DASHSCOPE__REGION": INTL,
        "SPEECH__DEFAULT_MODEL": "fun-asr-flash-2026-06-15",
    }


def no_weights(patient: Patient) -> None:
    patient.settings |= {
        "DASHSCOPE__API_KEY": "",
        "SPEECH__DEFAULT_MODEL": "local/base",
        "LOCAL__CACHE_DIR": str(patient.folder / "cache"),
        "LOCAL__SOURCES": "hub",
        "LOCAL__HUB_URL": f"http://127.0.0.1:{NOBODY}",
    }


def empty_file(patient: Patient) -> None:
    patient.database.unlink()
    patient.execute("CREATE TABLE theirs (x)")


def below_a_file(patient: Patient) -> None:
    """A folder that not even root can write to."""
    (patient.folder / "file").touch()
    patient.settings["DATA_DIR"] = str(patient.folder / "file" / "data")


def torn(patient: Patient) -> None:
    """Overwrite a page in the middle of the file."""
    with patient.database.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096)


POSTGRES = f"postgresql://gateway:canary@127.0.0.1:{NOBODY}/gateway"
NEWER = "UPDATE alembic_version SET version_num = '9999'"
ELSEWHERE = "INSERT INTO instance_fact VALUES ('store', 'another')"
PEPPER = "INSERT INTO instance_fact VALUES ('pepper', 'another')"

PLANTED = {
    "a wrong key": Planted(
        sets(DASHSCOPE__API_KEY="sk-nobodys"),
        "dashscope account",
        "DashScope rejects the key (401",
        "copy it again",
    ),
    "a key of another region": Planted(
        anothers_key,
        "dashscope account",
        "DashScope rejects the key (401",
        "GATEWAY_DASHSCOPE__REGION",
    ),
    "a clock that is off": Planted(
        lambda patient: patient.simulator.clock.advance(600),
        "dashscope clock",
        "s behind",
        "Set this machine's clock",
        is_warning=True,
    ),
    "no ffmpeg": Planted(
        sets(AUDIO__FFMPEG="/nowhere/ffmpeg"),
        "decoder",
        "/nowhere/ffmpeg is not there",
        "GATEWAY_AUDIO__FFMPEG",
    ),
    "an ffmpeg that may not be run": Planted(
        no_program, "decoder", "cannot be run", "GATEWAY_AUDIO__FFMPEG"
    ),
    "a database of a newer version": Planted(
        lambda patient: patient.execute(NEWER),
        "database",
        "migrated by a newer version",
        "Run the version that migrated it",
    ),
    "a database that is not migrated": Planted(
        empty_file, "database", "not migrated yet", "asr-gateway serve", is_warning=True
    ),
    "a PostgreSQL that is not there": Planted(
        sets(DATABASE__URL=POSTGRES),
        "database",
        f"PostgreSQL at 127.0.0.1:{NOBODY} cannot be used",
        "Start it, or check host, port and firewall",
    ),
    "a broken file": Planted(torn, "database integrity", "age", "restore a backup"),
    "another database's recordings": Planted(
        lambda patient: patient.execute(ELSEWHERE),
        "recordings' folder",
        "is not the one of this database",
        "GATEWAY_DATA_DIR",
    ),
    "another secret": Planted(
        lambda patient: patient.execute(PEPPER),
        "keys' secret",
        "hashed with another secret",
        "GATEWAY_ACCESS__PEPPERS",
    ),
    "a floor above what is free": Planted(
        sets(AUDIO__MIN_FREE_BYTES=str(1 << 60)), "disk", "are refused below", "Free some space"
    ),
    "a folder everybody can write to": Planted(
        lambda patient: patient.data.chmod(0o777),
        "store",
        "by every user of this machine",
        "chmod 700",
        is_warning=True,
    ),
    "a folder of models that does not exist": Planted(
        lambda patient: (no_weights(patient), patient.settings.update(LOCAL__MODEL_DIR="/nope")),
        "model files",
        "there is no folder /nope",
        "does not start",
    ),
    "a folder nobody can write to": Planted(
        below_a_file, "store", "cannot be written to", "set GATEWAY_DATA_DIR"
    ),
    "no price": Planted(
        unpriced,
        "dashscope price",
        "no price of fun-asr-flash-2026-06-15 is in force",
        "asr-gateway prices set fun-asr-flash-2026-06-15",
    ),
    "no model files, and no way to them": Planted(
        no_weights,
        "model files",
        "is not here, and the hub takes no connection",
        "GATEWAY_LOCAL__MODEL_DIR",
    ),
    "listening to everybody": Planted(
        sets(SERVER__HOST="0.0.0.0"),  # noqa: S104 - never served
        "access",
        "there is no key",
        "asr-gateway keys create",
    ),
    "an unknown model": Planted(
        sets(SPEECH__DEFAULT_MODEL="qwen9"), "model", "qwen9 is unknown", "asr-gateway models list"
    ),
}


async def test_a_correct_gateway_has_no_findings(patient: Patient) -> None:
    assert await patient.examined() == (0, {})


@pytest.mark.parametrize("what", PLANTED)
async def test_each_misconfiguration_is_reported_with_its_remedy(
    patient: Patient, what: str
) -> None:
    planted = PLANTED[what]
    planted.plant(patient)
    code, findings = await patient.examined()
    assert findings.keys() == {planted.name}
    finding = findings[planted.name]
    assert (code, finding["status"]) == ((0, "warning") if planted.is_warning else (1, "wrong"))
    assert planted.found in finding["found"]
    assert planted.remedy in finding["remedy"]
    assert "canary" not in json.dumps(findings)


async def test_a_ledger_that_violates_an_invariant_is_reported(patient: Patient) -> None:
    async with open_database(f"sqlite:///{patient.database}") as db:
        scenario = await Scenario.create(db)
        job = await scenario.claim()
        await scenario.answered(job, await scenario.call(job))
        await scenario.complete(job)
    patient.execute("DELETE FROM transcript")
    code, findings = await patient.examined()
    assert (code, findings.keys()) == (1, {"books", "recordings"})
    assert findings["books"]["found"] == (
        f"not so: a completed transcription has a transcript; 1 ({scenario.id})"
    )
    assert "asr-gateway jobs show" in findings["books"]["remedy"]
    assert "bytes are missing, of 1 checked: 1 (aud_" in findings["recordings"]["found"]
    assert "backup" in findings["recordings"]["remedy"]


async def test_a_billed_failed_call_violates_no_invariant(patient: Patient) -> None:
    async with open_database(f"sqlite:///{patient.database}") as db:
        for is_task in (False, True):
            scenario = await Scenario.create(db)
            job = await scenario.claim()
            call = await scenario.call(job)
            if is_task:
                await scenario.charged(job, call)
            else:
                await scenario.call_failed(job, call, failure(Billed.YES))
            await scenario.fail(job)
        (audio,) = await db.read(stored_audio, 10)
    stored = patient.data / "audio" / "blobs" / audio[1]
    stored.parent.mkdir(parents=True)
    stored.touch()
    assert await patient.examined() == (0, {})


async def test_a_port_in_use_by_another_program_is_reported(patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        patient.settings["SERVER__PORT"] = str(taken.getsockname()[1])
        code, findings = await patient.examined()
    assert (code, findings.keys()) == (1, {"port"})
    assert "is taken by another program" in findings["port"]["found"]
    assert "GATEWAY_SERVER__PORT" in findings["port"]["remedy"]


async def test_doctor_creates_no_files(patient: Patient) -> None:
    shutil.rmtree(patient.data)
    assert await patient.examined() == (0, {})
    assert not patient.data.exists()


async def test_doctor_checks_a_real_postgresql(patient: Patient, postgres: Databases) -> None:
    url = await asyncio.to_thread(postgres.empty)
    patient.settings["DATABASE__URL"] = url
    code, findings = await patient.examined()
    assert (code, findings.keys()) == (0, {"database"})
    assert findings["database"]["found"].startswith("PostgreSQL 1")
    async with open_database(url) as db:
        await Scenario.create(db)
    code, findings = await patient.examined()
    assert (code, findings.keys()) == (1, {"recordings"})
    await asyncio.to_thread(postgres.drop, url)
    code, findings = await patient.examined()
    assert (code, findings.keys()) == (1, {"database"})
    assert "Create that database" in findings["database"]["remedy"]


async def test_wrong_settings_are_findings(patient: Patient) -> None:
    """CASES §5: doctor reports the sentence with which `serve` refuses to start."""
    patient.settings |= {"SERVR__PORT": "1", "DASHSCOPE_API_KEY": "canary"}
    ended = await asyncio.to_thread(
        lambda: call(
            "doctor",
            "--json",
            cwd=patient.folder,
            environment={f"GATEWAY_{name}": value for name, value in patient.settings.items()},
        )
    )
    found = json.loads(ended.stdout)["findings"]
    assert (ended.returncode, {one["name"] for one in found}) == (1, {"settings"})
    assert [one["found"] for one in found] == [
        "GATEWAY_DASHSCOPE_API_KEY is not a setting; did you mean GATEWAY_DASHSCOPE__API_KEY?",
        "GATEWAY_SERVR__PORT is not a setting; did you mean GATEWAY_SERVER__PORT?",
    ]
