"""CPU time per request of the HTTP layer alone, with requests that reach no job and no engine.

python -m bench.http_overhead [--against CHECKOUT] [--requests 3000] [--rounds 5]

A real `python -m app.serve` with a key answers three requests, 16 at a time: `GET /healthz`,
`POST /v1/transcriptions` without a valid Authorization header (401), and the same with a key and an
unsupported media type (415). CPU time is that of all threads of the server, from
/proc/PID/task/*/schedstat, with the log as JSON into a file. With `--against` a second checkout of
the repository is measured in alternating rounds.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 60.0
END = b"\r\n\r\n"
NANO = 1e9
BODY = b"x" * 64
CALLERS = 16


@dataclass(frozen=True)
class Case:
    name: str
    status: int
    request: bytes


def cases(key: str) -> list[Case]:
    head = "Host: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\n"
    post = f"POST /v1/transcriptions HTTP/1.1\r\n{head}Content-Length: {len(BODY)}\r\n"
    kind = "Content-Type: text/plain\r\n"
    return [
        Case("GET /healthz", 200, f"GET /healthz HTTP/1.1\r\n{head}\r\n".encode()),
        Case("POST, no key", 401, f"{post}{kind}Authorization: Basic eA==\r\n\r\n".encode() + BODY),
        Case(
            "POST, wrong type",
            415,
            f"{post}{kind}X-A: b\r\nAuthorization: Bearer {key}\r\n\r\n".encode() + BODY,
        ),
    ]


@contextmanager
def gateway(checkout: Path, folder: Path) -> Iterator[tuple[int, int, str]]:
    """Run a checkout's gateway; lend its process id, its port and a key."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "DASHSCOPE_"))}
    environment = clean | {
        "PYTHONPATH": str(checkout),
        "GATEWAY_DATA_DIR": str(folder / "data"),
        "GATEWAY_SERVER__PORT": "0",
        "GATEWAY_LOG__FORMAT": "json",
        "GATEWAY_LOCAL__ENABLED": "false",
        "GATEWAY_DASHSCOPE__API_KEY": "sk-bench",
    }
    made = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "keys", "create", "bench", "--json"],
        env=environment,
        cwd=checkout,
        capture_output=True,
        check=True,
    )
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.serve"], env=environment, cwd=checkout, stderr=sink
        )
    try:
        yield process.pid, _port(process, log), json.loads(made.stdout)["key"]
    finally:
        process.kill()
        process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and '"server.listening"' in line:
                return int(json.loads(line)["port"])
        time.sleep(0.05)
    raise TimeoutError("the gateway does not listen")


def cpu_us(pid: int) -> float:
    """Return the CPU time that all threads of a process have used."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / NANO * 1e6


def read_answer(connection: socket.socket, case: Case) -> None:
    answer = b""
    while END not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(END)
    assert head.startswith(b"HTTP/1.1 %d" % case.status), answer
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536)


def measured(pid: int, port: int, case: Case, requests: int) -> float:
    """Return the server's CPU time per request in microseconds, `CALLERS` at a time."""
    connections: list[socket.socket] = []
    spent = 0.0
    for _ in range(requests // CALLERS):
        while len(connections) < CALLERS:
            connections.append(socket.create_connection(("127.0.0.1", port)))
        time.sleep(0.002)  # new connections are accepted before the clock starts
        before = cpu_us(pid)
        for connection in connections:
            connection.sendall(case.request)
        for connection in connections:
            read_answer(connection, case)
        spent += cpu_us(pid) - before
        if case.status != HTTPStatus.OK:  # a refused body closes its connection
            for connection in connections:
                connection.close()
            connections.clear()
    for connection in connections:
        connection.close()
    return spent / (requests // CALLERS * CALLERS)


def main() -> int:
    asked = arguments()
    checkouts = {"here": REPOSITORY} | ({"against": asked.against} if asked.against else {})
    found: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        running = {}
        for name, checkout in checkouts.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="http-overhead-")))
            running[name] = stack.enter_context(gateway(checkout.resolve(), folder))
        for turn in range(asked.rounds + 1):  # the first warms up
            for name, (pid, port, key) in running.items():
                for case in cases(key):
                    us = measured(pid, port, case, asked.requests if turn else 160)
                    if turn:
                        found.setdefault((case.name, name), []).append(us)
    report(found, checkouts)
    return 0


def report(found: Mapping[tuple[str, str], list[float]], checkouts: Mapping[str, Path]) -> None:
    for case in dict.fromkeys(case for case, _ in found):
        figures = {name: median(found[case, name]) for name in checkouts}
        line = ", ".join(f"{name} {us:.0f} us" for name, us in figures.items())
        ratio = f", {figures['here'] / figures['against']:.2f}" if "against" in figures else ""
        print(f"{case}: {line}{ratio}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="a second checkout to measure")
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
