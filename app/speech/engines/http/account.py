"""A key and the host it is for, kept together: a key never goes to another region's host."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.settings import BundleSettings, OpenAISettings

_HOSTS = {
    "cn-beijing": "dashscope.aliyuncs.com",
    "ap-southeast-1": "dashscope-intl.aliyuncs.com",
    "us-east-1": "dashscope-us.aliyuncs.com",
}
_API = "/api/v1"  # the SDKs' base address ends with it, ours does not


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """One account at one place; `region` decides its prices."""

    region: str
    base_url: str
    key: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def dashscope_bundle(settings: BundleSettings) -> ProviderAccount:
    """Return the bundle that the settings describe, with nothing of another's."""
    return ProviderAccount(
        settings.region, _base_url(settings), settings.api_key.get_secret_value()
    )


def openai_bundle(settings: OpenAISettings) -> ProviderAccount:
    """Return the bundle of a server that speaks OpenAI's wire, with or without its `/v1`."""
    base_url = settings.base_url.rstrip("/").removesuffix("/v1")
    return ProviderAccount("self-hosted", base_url, settings.api_key.get_secret_value())


def _base_url(settings: BundleSettings) -> str:
    if settings.base_url:
        return settings.base_url.rstrip("/").removesuffix(_API)
    if settings.workspace:
        return f"https://{settings.workspace}.{settings.region}.maas.aliyuncs.com"
    return f"https://{_HOSTS[settings.region]}"
