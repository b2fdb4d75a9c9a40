"""Checks of the listening address by `asr-gateway doctor`."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

from app.access.keys import any_key
from app.access.loopback import is_loopback
from app.cli.doctor.check import CheckResult, failed, ok, warn
from app.cli.doctor.database import open_if_current
from app.cli.health import health_problem
from app.settings import ServerSettings, Settings

HEALTH_SECONDS = 3.0


async def check_server(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check whether callers need a key, and whether the port is free."""
    host = settings.server.host
    async with open_if_current(settings) as db:
        has_keys = db is not None and await db.read(any_key)
    if has_keys:
        yield ok("access", "callers need a key")
    elif is_loopback(host):
        yield ok("access", "no key exists: every local program may call")
    else:
        remedy = "Make a key: asr-gateway keys create NAME; or set GATEWAY_SERVER__HOST=127.0.0.1."
        yield failed("access", f"the gateway shall listen on {host}, and there is no key", remedy)
    if settings.server.port == 0:
        yield ok("port", "a free one is used on start")
    else:
        yield await asyncio.to_thread(_check_port, settings.server)


def _check_port(server: ServerSettings) -> CheckResult:
    at = f"{server.host} port {server.port}"
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        socket.create_server((server.host, server.port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if not health_problem(server, HEALTH_SECONDS):
                return ok("port", f"{at}: a gateway answers there already")
            remedy = "Stop that program, or set GATEWAY_SERVER__PORT to a free port."
            return failed("port", f"{at} is taken by another program", remedy)
        if error.errno == errno.EACCES:
            remedy = "Set GATEWAY_SERVER__PORT to 1024 or more; use a proxy for a lower port."
            return failed("port", f"this user may not use {at}", remedy)
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "Set GATEWAY_SERVER__HOST to an address of it, 127.0.0.1 or 0.0.0.0."
            return failed("port", f"{server.host} is not an address of this machine", remedy)
        return warn("port", f"{at} cannot be tested ({type(error).__name__})", "Start the gateway.")
    return ok("port", f"{at} is free")
