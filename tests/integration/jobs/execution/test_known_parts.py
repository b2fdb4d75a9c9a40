"""Parts that an earlier run finished stay in the text.

Covers: app.jobs.execution.progress
"""

import io
import wave

import pytest
import sqlalchemy as sa

from app.jobs.store.parts import stored_result
from app.jobs.tables import part
from tests.support.gateway import Gateway
from tests.support.queued_job import hand_out, queued
from tests.support.scenario import answer

pytestmark = pytest.mark.anyio


def quiet(seconds: int) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000 * seconds))
    return made.getvalue()


@pytest.mark.parametrize("index", [0, 1, 2])
async def test_a_stored_part_is_kept_where_the_detector_now_finds_silence(
    gateway: Gateway, index: int
) -> None:
    scenario = await queued(gateway, quiet(6), part_seconds=4)
    rows = [
        {
            "transcription_id": scenario.id,
            "idx": n,
            "start_ms": n * 2_000,
            "end_ms": (n + 1) * 2_000,
            "speech_ms": 1_500 if n == index else 0,
            "state": "done" if n == index else "silent",
            "pcm_sha256": "0" * 64 if n == index else None,
            "result": stored_result(answer(text="said before"), "scripted")
            if n == index
            else sa.null(),
        }
        for n in range(index + 1)
    ]

    def store(tx: sa.Connection) -> None:
        for row in rows:
            tx.execute(sa.insert(part).values(**row))

    await gateway.services.db.write(store)
    assert await hand_out(gateway, scenario)
    job = await gateway.ended(scenario.id)
    assert (job["status"], job["text"]) == ("completed", "said before")
    assert gateway.engine.calls == []
    chain = [(row["start_ms"], row["end_ms"]) for row in await scenario.parts()]
    assert chain[0][0] == 0
    assert chain[-1][1] == 6_000
    assert [end for _, end in chain[:-1]] == [start for start, _ in chain[1:]]
