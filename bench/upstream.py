"""A DashScope with minimal cost: it reads any body and always returns the same transcript.

python -m bench.upstream [--delay SECONDS]

It prints its port as a line of JSON. GET /calls returns the number of calls it has answered. The
provider simulator is the exact model of DashScope; this one is for measuring the gateway.
"""

import argparse
import asyncio
import json
from typing import cast

import uvloop

SAID = {
    "output": {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {
                    "annotations": [{"language": "en", "type": "audio_info", "emotion": "neutral"}],
                    "content": [{"text": "Whatever was said."}],
                    "role": "assistant",
                },
            }
        ]
    },
    "usage": {"seconds": 10, "output_tokens_details": {"text_tokens": 6}},
    "request_id": "568e2bf0-d6f2-97f8-9f15-a57b11dc6977",
}
END = b"\r\n\r\n"


def _framed(value: object) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + END + body


ANSWER = _framed(SAID)


class Upstream(asyncio.Protocol):
    """One connection; requests arrive one after the other."""

    calls = 0
    delay_seconds = 0.0

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a body without storing them."""
        if not self._left:
            self._head += data
            head, end, rest = self._head.partition(END)
            if not end:
                return
            self._head = b""
            if head.startswith(b"GET"):
                self._transport.write(_framed({"calls": Upstream.calls}))
                return
            self._left, data = _length(head), rest
        self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            Upstream.calls += 1
            asyncio.get_running_loop().call_later(self.delay_seconds, self._answer)

    def _answer(self) -> None:
        self._transport.write(ANSWER)


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next(int(value) for name, _, value in lines if name == b"content-length")


async def serve(delay_seconds: float) -> None:
    Upstream.delay_seconds = delay_seconds
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0)
    uvloop.run(serve(parser.parse_args().delay))


if __name__ == "__main__":
    main()
