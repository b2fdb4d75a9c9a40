"""An API key together with its host, so that a key is never sent to another region's host."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.settings import AccountSettings, OpenAISettings

_HOSTS = {
    "cn-beijing": "dashscope.aliyuncs.com",
    "ap-southeast-1": "dashscope-intl.aliyuncs.com",
    "us-east-1": "dashscope-us.aliyuncs.com",
}
_API = "/api/v1"  # the base address of the SDKs ends with it, `base_url` does not


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """One account at one provider. `region` decides the prices. The key may be empty."""

    region: str
    base_url: str
    key: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def dashscope_account(settings: AccountSettings) -> ProviderAccount:
    """Return the DashScope account of these settings."""
    if settings.base_url:
        base_url = settings.base_url.rstrip("/").removesuffix(_API)
    elif settings.workspace:
        base_url = f"https://{settings.workspace}.{settings.region}.maas.aliyuncs.com"
    else:
        base_url = f"https://{_HOSTS[settings.region]}"
    return ProviderAccount(settings.region, base_url, settings.api_key.get_secret_value())


def openai_account(settings: OpenAISettings) -> ProviderAccount:
    """Return the account at an OpenAI-compatible server. Its address may end with `/v1`."""
    base_url = settings.base_url.rstrip("/").removesuffix("/v1")
    return ProviderAccount("self-hosted", base_url, settings.api_key.get_secret_value())
