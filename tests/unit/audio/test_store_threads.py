"""Tests of the threads of the audio store.

Covers: app.audio.storage.threads
"""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from app.audio.storage.threads import WorkThreads

pytestmark = pytest.mark.anyio
MARK: ContextVar[str] = ContextVar("mark", default="")


async def test_work_runs_in_a_thread_with_the_callers_context() -> None:
    MARK.set("caller")
    threads = WorkThreads(2)

    def work(number: int, *, more: int) -> tuple[int, str, bool]:
        return number + more, MARK.get(), threading.current_thread() is threading.main_thread()

    assert await threads.run(work, 1, more=2) == (3, "caller", False)


async def test_the_caller_raises_the_error_of_the_work() -> None:
    with pytest.raises(ZeroDivisionError):
        await WorkThreads(1).run(divmod, 1, 0)


async def test_work_of_a_cancelled_caller_completes() -> None:
    threads, begun, may_end, ended = WorkThreads(1), *(threading.Event() for _ in range(3))

    def work() -> None:
        begun.set()
        may_end.wait(5)
        ended.set()

    running = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait, 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    may_end.set()
    assert await asyncio.to_thread(ended.wait, 5)
    assert await threads.run(int, "7") == 7


async def test_as_many_works_run_at_once_as_there_are_threads() -> None:
    threads, both = WorkThreads(2), threading.Barrier(2, timeout=5)
    await asyncio.gather(threads.run(both.wait), threads.run(both.wait))


def test_work_that_outlives_its_event_loop_harms_nobody() -> None:
    threads, may_end = WorkThreads(1), threading.Event()

    async def leave() -> None:
        running = asyncio.create_task(threads.run(may_end.wait, 5))
        await asyncio.sleep(0)
        running.cancel()

    asyncio.run(leave())
    may_end.set()
    assert asyncio.run(threads.run(int, "7")) == 7
