"""Which gateway a command talks to: the one of ASR_GATEWAY_URL, or one of its own."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.cli.errors import UsageError
from app.cli.local_gateway import Say, local_gateway
from app.net.api_client import GatewayApi

URL_VARIABLE = "ASR_GATEWAY_URL"
KEY_VARIABLE = "ASR_GATEWAY_KEY"


def is_own() -> bool:
    """Tell whether this command runs a gateway of its own."""
    return not os.environ.get(URL_VARIABLE)


def check_address() -> None:
    """Refuse an ASR_GATEWAY_URL that is none before anything is done. Raises WronglyUsed."""
    if url := os.environ.get(URL_VARIABLE):
        _api(url)


@asynccontextmanager
async def connected(say: Say | None = None) -> AsyncIterator[GatewayApi]:
    """Lend the API of the gateway that the environment names, or of one that runs meanwhile.

    With `say`, one of our own is ready to transcribe by then. Raises WronglyUsed where the
    address is none, CommandFailed where a gateway of our own does not start.
    """
    check_address()
    async with AsyncExitStack() as stack:
        url = os.environ.get(URL_VARIABLE)
        if not url:
            url = await stack.enter_async_context(local_gateway(say))
        yield await stack.enter_async_context(_api(url))


def _api(url: str) -> GatewayApi:
    try:
        return GatewayApi(url, os.environ.get(KEY_VARIABLE))
    except ValueError as error:
        raise UsageError(str(error)) from error
