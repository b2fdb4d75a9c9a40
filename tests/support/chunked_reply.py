"""A reply of the DashScope stub that is sent in chunks, and ends correctly or with a fault."""

import asyncio
from collections.abc import Sequence

from tests.support.stub_server import ReceivedRequest, Reply


def streams(
    chunks: Sequence[bytes], *, pause: float = 0.0, ends: str = "well", **headers: str
) -> Reply:
    """Answer with these chunks. `ends`: "well", "torn" (no last chunk), "silent" or "unframed"."""

    async def reply(_asked: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        named = {"content-type": "text/event-stream;charset=UTF-8", **headers}
        has_end = ends != "unframed"
        framing = {"transfer-encoding": "chunked"} if has_end else {"connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in (named | framing).items())
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        for chunk in chunks:
            writer.write(chunk if ends == "unframed" else b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(pause)
        if ends == "silent":
            await asyncio.sleep(30)
        if ends == "well":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        else:
            writer.close()

    return reply
