"""The gateway that a command uses: the one at ASR_GATEWAY_URL, or one that it starts itself."""

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


def check_gateway_url() -> None:
    """Raise UsageError if ASR_GATEWAY_URL is set and is not a valid address."""
    if url := os.environ.get(URL_VARIABLE):
        gateway_api(url)


@asynccontextmanager
async def connect(say: Say | None = None) -> AsyncIterator[GatewayApi]:
    """Open the API of the gateway at ASR_GATEWAY_URL, or of one that runs during the block.

    With `say`, a gateway of our own is ready to transcribe before the block begins. Raises
    UsageError if the address is not valid, and CommandFailed if our own gateway does not start.
    """
    check_gateway_url()
    async with AsyncExitStack() as stack:
        url = os.environ.get(URL_VARIABLE)
        if not url:
            url = await stack.enter_async_context(local_gateway(say))
        yield await stack.enter_async_context(gateway_api(url))


def gateway_api(url: str) -> GatewayApi:
    """Return the API at an address, with the key in ASR_GATEWAY_KEY. Raises UsageError."""
    try:
        return GatewayApi(url, os.environ.get(KEY_VARIABLE))
    except ValueError as error:
        raise UsageError(str(error)) from error
