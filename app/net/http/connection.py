"""One HTTP/1.1 connection that carries one exchange at a time."""

import asyncio
import math
import select
from collections.abc import AsyncIterable, Callable
from typing import cast

from app.kit.records import dataclass
from app.net.http.answer_reader import AnswerReader, ReadError
from app.net.http.exchange import Answer, Body, ExchangeError, Fault

FLUSH_BYTES = 1 << 20  # of a body are handed over at once; more waits until they have gone
LEFTOVER_SECONDS = 1.0  # for the end of a stream whose answer has been returned already


@dataclass(frozen=True, slots=True)
class Limits:
    """The time of an exchange. `deadline` is a moment of the loop's clock, in `seconds` from start.

    `silence_seconds` bounds the gap between two reads, `stream_silence_seconds` that of a stream.
    """

    deadline: float
    seconds: float
    silence_seconds: float
    stream_silence_seconds: float = math.inf

    @property
    def passed(self) -> str:
        return f"no whole answer after {self.seconds:.1f} s"


class Connection(asyncio.Protocol):
    """`on_change` is called when the connection has become idle or was lost."""

    def __init__(self, on_change: Callable[["Connection"], None]) -> None:
        self.is_lost = False
        self.idle_since = 0.0
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self._poll = select.poll()
        self._reader: AnswerReader | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_handed_over = False
        self._is_blocked = False  # the transport holds bytes that the kernel has not taken
        self._unblocked: asyncio.Future[None] | None = None
        self._limits: Limits
        self._is_stream = False  # the silence limit of streams holds
        self._silence_seconds = self._active_at = 0.0

    @property
    def is_idle(self) -> bool:
        return self._reader is None and not self.is_lost

    @property
    def was_sent(self) -> bool:
        """Whether the kernel has the last byte of the request."""
        return self._is_handed_over and not self._is_blocked

    def is_usable(self) -> bool:
        """Tell whether an idle connection can carry a request: no bytes and no end have come."""
        return self.is_idle and not self._transport.is_closing() and not self._poll.poll(0)

    async def exchange(
        self,
        head: bytes,
        body: Body | None,
        reader: AnswerReader,
        limits: Limits,
    ) -> Answer:
        """Send a request and return the answer. Raises ExchangeError, and what `reader` raises."""
        self._reader = reader
        self._answer = self._loop.create_future()
        self._is_handed_over = self._is_stream = False
        self._limits = limits
        self._silence_seconds = limits.silence_seconds
        self._active_at = self._loop.time()
        self._check_time()
        try:
            await self._send(head, body)
            return await self._answer
        finally:
            self._end_exchange()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    async def _send(self, head: bytes, body: Body | None) -> None:
        pieces, size = [head], 0
        chunks = () if body is None else body.chunks()
        if isinstance(chunks, AsyncIterable):
            async for chunk in chunks:
                await self._write([*pieces, chunk])
                pieces = []
        else:
            for chunk in chunks:
                pieces.append(chunk)
                size += len(chunk)
                if size >= FLUSH_BYTES:
                    await self._write(pieces)
                    pieces, size = [], 0
        if not self._is_answered:
            self._is_handed_over = True
            self._transport.writelines(pieces)

    async def _write(self, pieces: list[bytes]) -> None:
        if self._is_answered:
            return
        self._transport.writelines(pieces)
        if self._is_blocked:
            self._unblocked = self._loop.create_future()
            await self._unblocked

    @property
    def _is_answered(self) -> bool:
        """Whether the answer came, or can no longer come, before the request was sent whole."""
        return self._answer is None or self._answer.done()

    def _end_exchange(self) -> None:
        """Prepare for the next exchange, or close the connection where there can be none."""
        answer, self._answer = self._answer, None
        reader = self._reader
        if self._timer is not None:
            self._timer.cancel()
        is_well = (
            answer is not None
            and answer.done()
            and not answer.cancelled()
            and answer.exception() is None
        )
        if self.is_lost or reader is None:
            return
        if not is_well or not self.was_sent:
            self.abort()
        elif reader.is_complete:
            self._become_idle(reader)
        else:
            self._timer = self._loop.call_later(LEFTOVER_SECONDS, self.abort)

    def _become_idle(self, reader: AnswerReader) -> None:
        self._reader = None
        if self._timer is not None:
            self._timer.cancel()
        if reader.keeps_connection:
            self.idle_since = self._loop.time()
            self._on_change(self)
        else:
            self.abort()

    def _check_time(self) -> None:
        """Fail if a time limit has passed. Else check again when the next one may have passed."""
        if self._timer is not None:
            self._timer.cancel()
        now, silent_at = self._loop.time(), self._active_at + self._silence_seconds
        if now >= self._limits.deadline:
            self._fail(Fault.TIMEOUT, self._limits.passed)
        elif now >= silent_at:
            self._fail(Fault.TIMEOUT, f"the server fell silent for {self._silence_seconds:.1f} s")
        else:
            when = min(self._limits.deadline, silent_at)
            self._timer = self._loop.call_at(when, self._check_time)

    def _fail(self, fault: Fault, words: str) -> None:
        self._settle(ExchangeError(fault, words, was_sent=self.was_sent))

    def _settle(self, outcome: Answer | Exception) -> None:
        if self._answer is None:  # the rest of a stream
            if isinstance(outcome, Exception):
                self.abort()
        elif not self._answer.done():
            if isinstance(outcome, Answer):
                self._answer.set_result(outcome)
            else:
                self._answer.set_exception(outcome)
        self._unblock()

    def _unblock(self) -> None:
        if self._unblocked is not None and not self._unblocked.done():
            self._unblocked.set_result(None)

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # So that `_is_blocked` says whether the kernel has taken all bytes. Not 0: the transport
        # of TLS would then be paused without a byte to wait for.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._active_at = self._loop.time()
        self._unblock()

    def data_received(self, data: bytes) -> None:
        self._active_at = self._loop.time()
        reader = self._reader
        if reader is None:
            self.abort()
            return
        try:
            reader.feed(data)
        except ReadError as error:
            self._fail(error.fault, str(error))
        except Exception as error:  # noqa: BLE001 - raised by `take`, for the caller of `exchange`
            self._settle(error)
        else:
            if reader.is_streamed and not self._is_stream:
                self._is_stream = True
                self._silence_seconds = min(
                    self._silence_seconds, self._limits.stream_silence_seconds
                )
                self._check_time()
            if reader.is_enough:
                self._settle(reader.answer)
            if reader.is_complete and self._answer is None:
                self._become_idle(reader)

    def eof_received(self) -> None:
        self._end_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._end_reading(error)
        self._unblock()
        if self._timer is not None:
            self._timer.cancel()
        self.lost.set_result(None)
        self._on_change(self)

    def _end_reading(self, error: Exception | None = None) -> None:
        reader = self._reader
        if reader is None or self._answer is None:
            return
        try:
            if error is None:
                reader.end()
            else:
                reader.cut(type(error).__name__)
        except ReadError as failure:
            self._fail(failure.fault, str(failure))
        else:
            self._settle(reader.answer)
