"""Ctrl-C and SIGTERM in a command: it cleans up and ends without a traceback."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Self

from app.cli.errors import CommandFailed
from app.net.api_client import ApiError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNAL_EXIT = 128  # added to a signal's number: the exit code of a shell


class Interrupts:
    """Signals during a block. Each one calls `listener`, or without it cancels the block's task.

    The listener must not raise.
    """

    def __init__(self) -> None:
        self.came: list[int] = []
        self.listener: Callable[[], None] | None = None
        self._task = asyncio.current_task()

    @property
    def exit_code(self) -> int:
        return SIGNAL_EXIT + self.came[0]

    def __enter__(self) -> Self:
        def receive(number: int) -> None:
            self.came.append(number)
            if self.listener is not None:
                self.listener()
            elif self._task is not None:
                self._task.cancel()

        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, receive, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)


def run_async(work: Callable[[Interrupts], Awaitable[int]]) -> int:
    """Run the work of a command and return its exit code. Raises CommandFailed for an ApiError."""

    async def main() -> int:
        with Interrupts() as interrupts:
            try:
                return await work(interrupts)
            except asyncio.CancelledError:
                if not interrupts.came:
                    raise
                return interrupts.exit_code

    try:
        return asyncio.run(main())
    except ApiError as error:
        raise CommandFailed(str(error)) from error


async def prompt(question: str, interrupts: Interrupts) -> str | None:
    """Ask on the terminal and return the answer, or None after Ctrl-C or at the end of input."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()
    descriptor = sys.stdin.fileno()

    def settle(value: str | None) -> None:
        if not answer.done():
            answer.set_result(value)

    def read() -> None:
        line = os.read(descriptor, 1024).decode(errors="replace")
        settle(line.strip().lower() if line else None)

    print(question, end="", file=sys.stderr, flush=True)
    interrupts.listener = lambda: settle(None)
    loop.add_reader(descriptor, read)  # a thread in input() would outlive the second Ctrl-C
    try:
        return await answer
    finally:
        loop.remove_reader(descriptor)
        if answer.done() and answer.result() is None:
            print(file=sys.stderr)
