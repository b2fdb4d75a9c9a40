"""`asr-gateway health`: whether the gateway of these settings answers; for a HEALTHCHECK.

The command runs every few seconds beside the service, so it does not load an HTTP client.
"""

import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from app.cli.errors import FAILED
from app.settings import ServerSettings, Settings

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - asked, not bound
OK = 200


def health(
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Longest wait for data in seconds.")
    ] = 4.0,
) -> None:
    """Check that the gateway of these settings is alive. Exit code 0: alive, 1: not."""
    server = Settings().server
    fault = health_problem(server, timeout)
    address = f"{EVERYWHERE.get(server.host, server.host)}:{server.port}"
    if fault:
        print(f"The gateway at {address} {fault}.", file=sys.stderr)
        raise typer.Exit(FAILED)
    print(f"The gateway at {address} is alive.")


def health_problem(server: ServerSettings, seconds: float) -> str:
    """Return the problem as the end of a sentence, or "" if the gateway is alive."""
    host = EVERYWHERE.get(server.host, server.host)
    try:
        with closing(HTTPConnection(host, server.port, timeout=seconds)) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except TimeoutError:
        return f"has not answered for {seconds:g} s"
    except (OSError, HTTPException) as error:
        return f"does not answer ({type(error).__name__})"
    return "" if status == OK else f"answers {status}"
