"""Pauses of waiting jobs: they grow with age and number, and have a jitter.

Covers: app.jobs.filetrans.pacing
"""

from random import Random

import pytest

from app.jobs.filetrans.pacing import PollPacing
from app.settings import JobSettings

pytestmark = pytest.mark.anyio
RATE = 17.0


def pauses() -> PollPacing:
    return PollPacing(JobSettings(), Random(7))


@pytest.mark.parametrize(
    ("age", "least", "most"), [(0, 1.6, 2.4), (8, 1.6, 2.4), (40, 8, 12), (10_000, 16, 24)]
)
async def test_pauses_between_polls_grow(age: float, least: float, most: float) -> None:
    drawn = [pauses().before_poll("a", age, RATE), *_many(age)]
    assert all(least <= one <= most for one in drawn)
    assert max(drawn) > min(drawn)


def _many(age: float) -> list[float]:
    one = pauses()
    return [one.before_poll("a", age, RATE) for _ in range(20)]


async def test_pauses_grow_with_the_number_of_waiting_tasks() -> None:
    many = pauses()
    for number in range(2_000):
        last = many.before_poll(f"job-{number}", 0, RATE)
    assert 2_000 / 20 <= last <= 2_000 / RATE * 1.4
    for number in range(2_000):
        many.forget(f"job-{number}")
    assert many.before_poll("one", 0, RATE) < 3


async def test_the_pause_before_a_submit_grows_with_the_queue() -> None:
    queue = pauses()
    for _ in range(100):
        queue.note_submit("done", 8.0)
    waits = [queue.before_submit(f"job-{number}", 16) for number in range(160)]
    assert waits[0] < 3
    assert 160 * 8 / 16 * 0.7 < waits[-1] < 160 * 8 / 16 * 1.3
