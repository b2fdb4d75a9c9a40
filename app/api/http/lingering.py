"""A transport whose close lets a client that is still sending read its answer.

It aborts a connection whose client does not read.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

LINGER_BYTES = 1 << 20  # of an unwanted upload, read so that its sender receives the answer
LINGER_SECONDS = 2.0
MIN_READ_BYTES_PER_SECOND = 1024  # of an answer whose bytes wait in this process


class Lingering(asyncio.Transport):
    """A transport whose close(), while the client is still sending, lets it read the answer first.

    Closing a socket that holds unread bytes sends RST, and the client may lose the answer behind it
    (RFC 9112 §9.6). So the transport ends its own side, discards at most LINGER_BYTES, and then
    only waits.
    """

    def __init__(
        self,
        inner: asyncio.Transport,
        *,
        loop: asyncio.AbstractEventLoop,
        sending: Callable[[], bool],
        write_timeout_seconds: float,
    ) -> None:
        super().__init__()
        self._write_timeout_seconds = write_timeout_seconds
        self._watch: asyncio.TimerHandle | None = None
        # The kernel gives up on a client that is gone or does not read what the kernel holds.
        if hasattr(socket, "TCP_USER_TIMEOUT") and (bound := inner.get_extra_info("socket")):
            milliseconds = round(write_timeout_seconds * 1000)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._inner, self._loop, self._sending = inner, loop, sending
        self._timer: asyncio.TimerHandle | None = None
        self._thrown_away = 0
        self._is_lost = False
        self._head: bytes | bytearray | memoryview | None = None

    @property
    def lingers(self) -> bool:
        return self._timer is not None

    def close(self) -> None:
        if self.lingers:
            return
        self._flush()
        if self._is_lost or self._inner.is_closing() or not self._sending():
            self._close_inner()
            return
        self._timer = self._loop.call_later(LINGER_SECONDS, self._close_inner)
        self._inner.resume_reading()
        self._inner.write_eof()

    def abort(self) -> None:
        self._head = None
        self._inner.abort()

    def throw_away(self, data: bytes) -> None:
        self._thrown_away += len(data)
        # Past the bound the sender blocks instead: one that reads while it sends has its answer.
        if self._thrown_away > LINGER_BYTES:
            self._inner.pause_reading()

    def _close_inner(self) -> None:
        self._inner.close()
        if self._inner.get_write_buffer_size():
            self.watch_reader()

    def watch_reader(self) -> None:
        """Abort when too few of the bytes that wait were read; until `stop_watching`."""
        waiting = self._inner.get_write_buffer_size()

        def abort_if_stalled() -> None:
            self._watch = None
            least = self._write_timeout_seconds * MIN_READ_BYTES_PER_SECOND
            if waiting - self._inner.get_write_buffer_size() < least:
                self.abort()
            else:
                self.watch_reader()

        self.stop_watching()
        self._watch = self._loop.call_later(self._write_timeout_seconds, abort_if_stalled)

    def stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def lost(self) -> None:
        self._is_lost = True
        self.stop_watching()
        if self._timer is not None:
            self._timer.cancel()

    def is_closing(self) -> bool:
        return self.lingers or self._inner.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write; the head of a response waits for the first bytes of its body, in one send."""
        if self.is_closing():
            return
        if self._head is not None:
            self._inner.writelines((self._head, data))
            self._head = None
        elif data[:5] == b"HTTP/":
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._inner.write(data)

    def _flush(self) -> None:
        if self._head is not None and not self._is_lost:
            self._inner.write(self._head)
        self._head = None

    def pause_reading(self) -> None:
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        self._inner.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)
