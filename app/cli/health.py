"""`asr-gateway health`: whether the gateway of these settings answers; for a HEALTHCHECK.

It is run every few seconds beside the service, so it loads no HTTP client that it can do without.
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
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds of silence.")] = 4.0,
) -> None:
    """Ask the gateway of these settings whether it is alive; exit code 0 if so, else 1."""
    server = Settings().server
    fault = health_problem(server, timeout)
    shown = f"{_host(server)}:{server.port}"
    if fault:
        print(f"The gateway at {shown} {fault}.", file=sys.stderr)
        raise typer.Exit(FAILED)
    print(f"The gateway at {shown} is alive.")


def _host(server: ServerSettings) -> str:
    return EVERYWHERE.get(server.host, server.host)


def health_problem(server: ServerSettings, seconds: float) -> str:
    """Return the problem as a sentence, or an empty string where the gateway is alive."""
    try:
        with closing(HTTPConnection(_host(server), server.port, timeout=seconds)) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except TimeoutError:
        return f"has said nothing for {seconds:g} s"
    except (OSError, HTTPException) as error:
        return f"does not answer ({type(error).__name__})"
    return "" if status == OK else f"answers {status}"
