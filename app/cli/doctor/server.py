"""Checks of the listening address by `asr-gateway doctor`."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

from app.access.keys import any_key
from app.access.loopback import is_loopback
from app.cli.doctor.check import CheckResult, ok, problem, warning
from app.cli.doctor.database import lent
from app.cli.health import health_problem
from app.settings import ServerSettings, Settings

HEALTH_SECONDS = 3.0


async def check_server(settings: Settings) -> AsyncIterator[CheckResult]:
    """Check whether callers need a key, and whether the port is free."""
    yield await _access(settings)
    yield await asyncio.to_thread(_port, settings.server)


async def _access(settings: Settings) -> CheckResult:
    host = settings.server.host
    async with lent(settings) as db:
        has_keys = db is not None and await db.read(any_key)
    if has_keys:
        return ok("access", "by key")
    if is_loopback(host):
        return ok("access", "no key yet: whoever can reach loopback may call")
    remedy = "Make a key: asr-gateway keys create NAME; or set GATEWAY_SERVER__HOST=127.0.0.1."
    return problem("access", f"it is to listen on {host}, and there is no key", remedy)


def _port(server: ServerSettings) -> CheckResult:
    at = f"{server.host} port {server.port}"
    if server.port == 0:
        return ok("port", "a free one is taken on start")
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        socket.create_server((server.host, server.port), family=family).close()
    except OSError as error:
        return _not_had(error, server, at)
    return ok("port", f"{at} is free")


def _not_had(error: OSError, server: ServerSettings, at: str) -> CheckResult:
    if error.errno == errno.EADDRINUSE:
        if not health_problem(server, HEALTH_SECONDS):
            return ok("port", f"{at}: a gateway answers there already")
        remedy = "Stop it, or set GATEWAY_SERVER__PORT to a free one."
        return problem("port", f"{at} is taken by another program", remedy)
    if error.errno == errno.EACCES:
        remedy = "Set GATEWAY_SERVER__PORT to 1024 or more, behind a proxy if need be."
        return problem("port", f"{at} may not be taken by this user", remedy)
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        remedy = "Set GATEWAY_SERVER__HOST to one of this machine, 127.0.0.1 or 0.0.0.0."
        return problem("port", f"{server.host} is no address of this machine", remedy)
    return warning("port", f"{at} cannot be tried ({type(error).__name__})", "Start it and see.")
