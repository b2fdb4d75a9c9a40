"""The host of an account belongs to the region of its key.

Covers: app.speech.engines.http.provider_account
"""

import pytest

from app.settings import DashScopeSettings
from app.speech.engines.http.provider_account import dashscope_account


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ({}, "https://dashscope.aliyuncs.com"),
        ({"region": "ap-southeast-1"}, "https://dashscope-intl.aliyuncs.com"),
        ({"region": "us-east-1"}, "https://dashscope-us.aliyuncs.com"),
        (
            {"region": "ap-southeast-1", "workspace": "ws-1"},
            "https://ws-1.ap-southeast-1.maas.aliyuncs.com",
        ),
        ({"base_url": "http://127.0.0.1:9/api/v1/"}, "http://127.0.0.1:9"),
        ({"base_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ],
)
def test_the_host_belongs_to_the_region(said: dict[str, str], url: str) -> None:
    account = dashscope_account(DashScopeSettings.model_validate({"api_key": "sk-1", **said}))
    assert account.base_url == url
    assert account.region == said.get("region", "cn-beijing")
    assert account.headers() == {"Authorization": "Bearer sk-1"}
