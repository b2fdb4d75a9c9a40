"""Opens a TCP connection to the first address of a host that answers (RFC 8305)."""

import asyncio
import itertools
import socket
from collections.abc import Sequence
from typing import Any

from app.kit.open_file import close_unused

NEXT_ADDRESS_SECONDS = 0.25  # after which the next address is tried as well

AddressInfo = tuple[Any, Any, int, str, Any]
"""Family, kind, protocol, name and address, as `getaddrinfo` returns them."""


async def dial(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to a host. Raises OSError."""
    loop = asyncio.get_running_loop()
    return await dial_first(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def dial_first(infos: Sequence[AddressInfo]) -> socket.socket:
    """Return a socket that is connected to one of these addresses. Raises OSError."""
    families = [
        [info for info in infos if info[0] == family]
        for family in dict.fromkeys(info[0] for info in infos)
    ]
    # The families in turn, and in each the order that the resolver prefers.
    mixed = itertools.chain.from_iterable(itertools.zip_longest(*families))
    left = [info for info in mixed if info is not None]
    trying: set[asyncio.Task[socket.socket]] = set()
    failure = OSError("the host has no address")
    try:
        while left or trying:
            if left:
                trying.add(asyncio.create_task(_connect_socket(left.pop(0))))
            done, _ = await asyncio.wait(
                trying,
                timeout=NEXT_ADDRESS_SECONDS if left else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    trying.remove(task)
                    return task.result()
                trying.remove(task)
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(close_unused)


async def _connect_socket(info: AddressInfo) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the signature of sockets
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
