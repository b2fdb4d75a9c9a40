"""The storage of a provider is used at its own domains or at the operator's host only.

Covers: app.net.provider_storage
"""

from collections.abc import AsyncIterator

import pytest

from app.net import provider_storage
from app.net.fetch import FetchError, FetchFault
from app.net.http.exchange import Body, ExchangeError, Fault
from app.net.provider_storage import ProviderStorage

pytestmark = pytest.mark.anyio
FORM = Body(4, "text/plain", lambda: (b"form",))


@pytest.fixture
async def store() -> AsyncIterator[ProviderStorage]:
    made = ProviderStorage(("aliyuncs.com",), "127.0.0.1", silence_seconds=2)
    yield made
    await made.close()


async def _download(store: ProviderStorage, url: str) -> bytes:
    return await store.download(url, max_bytes=100, deadline_seconds=5)


@pytest.mark.parametrize(
    "url",
    [
        "https://aliyuncs.com.evil.example/a",
        "https://evilaliyuncs.com/a",
        "https://127.0.0.2/a",
        "http://bucket.aliyuncs.com:22/a",
        "ftp://bucket.aliyuncs.com/a",
        "https://user:word@bucket.aliyuncs.com/a",
        "http://[::1]/a",
        "nothing",
        "http://[broken",
    ],
)
async def test_other_addresses_are_not_used(store: ProviderStorage, url: str) -> None:
    with pytest.raises(FetchError) as caught:
        await _download(store, url)
    assert caught.value.fault is FetchFault.NOT_ALLOWED
    with pytest.raises(ExchangeError) as refused:
        await store.send(url, FORM, deadline_seconds=5, max_bytes=100)
    assert (refused.value.fault, refused.value.was_sent) == (Fault.UNREACHABLE, False)


async def test_a_provider_name_with_a_private_address_is_not_used(
    store: ProviderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def inside(_self: object, _host: str, _port: int) -> list[str]:
        return ["10.0.0.7"]

    monkeypatch.setattr(provider_storage.Resolver, "__call__", inside)
    with pytest.raises(FetchError) as caught:
        await _download(store, "http://bucket.oss-cn-beijing.aliyuncs.com/a")
    assert caught.value.fault is FetchFault.NOT_ALLOWED
    url = "https://bucket.oss-cn-beijing.aliyuncs.com/"
    with pytest.raises(ExchangeError):
        await store.send(url, FORM, deadline_seconds=5, max_bytes=100)
