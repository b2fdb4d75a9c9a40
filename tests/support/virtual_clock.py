"""An event loop whose clock jumps to the next timer: timings of tasks without waiting for them."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Advances its clock by the time that the loop would wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class _VirtualClockLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run_on_virtual_clock(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for timers and other tasks only; its loop's time begins at 0."""
    with asyncio.Runner(loop_factory=_VirtualClockLoop) as runner:
        return runner.run(main)
