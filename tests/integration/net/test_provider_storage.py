"""Downloads from the provider's object store over a real connection.

Covers: app.net.provider_storage
"""

from collections.abc import AsyncIterator

import pytest

from app.net.fetch import FetchError, FetchFault
from app.net.http.exchange import Body
from app.net.provider_storage import ProviderStorage
from tests.support.web_server import answer, redirect, serving

pytestmark = pytest.mark.anyio
FORM = Body(4, "text/plain", lambda: (b"form",))


@pytest.fixture
async def store() -> AsyncIterator[ProviderStorage]:
    made = ProviderStorage(("aliyuncs.com",), "127.0.0.1", silence_seconds=2)
    yield made
    await made.close()


async def _download(store: ProviderStorage, url: str) -> bytes:
    return await store.download(url, max_bytes=100, deadline_seconds=5)


async def test_a_result_is_fetched_over_plain_http_up_to_a_limit(store: ProviderStorage) -> None:
    async with serving() as source:
        source.pages["/a.json"] = answer("200 OK", b"{}")
        source.pages["/big.json"] = answer("200 OK", b"x" * 101)
        source.pages["/away"] = redirect(302, "/a.json")
        assert await _download(store, source.url("/a.json?sig=1")) == b"{}"
        for path, fault in (("/big.json", FetchFault.TOO_LARGE), ("/away", FetchFault.REDIRECTS)):
            with pytest.raises(FetchError) as caught:
                await _download(store, source.url(path))
            assert caught.value.fault is fault
