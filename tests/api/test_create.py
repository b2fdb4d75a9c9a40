import pytest
from tests.support.gateway import Gateway
pytestmark = pytest.mark.anyio
async def test_x(gateway: Gateway, recording: bytes):
    r = await gateway.send(recording, language="en")
    print(r.status_code, r.text)
    assert r.status_code == 200
