"""A relay of bytes: every connection is forwarded to one address, in both directions.

python -m bench.relay HOST PORT

It is the reference of `bench.sse`: the minimum CPU time that a Python process on uvloop needs for a
stream. It prints the port on which it listens.
"""

import asyncio
import sys

import uvloop

CHUNK_BYTES = 1 << 16


async def main(host: str, port: int) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
