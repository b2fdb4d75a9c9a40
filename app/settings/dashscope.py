"""Settings of DashScope and of its accounts."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from app.settings.group import CommaSeparated, SettingsGroup


class AccountSettings(SettingsGroup):
    api_key: SecretStr = Field(
        SecretStr(""),
        description="API key of the account. Empty: the engine is off. Also read from "
        "DASHSCOPE_API_KEY, and from dashscope_api_key in "
        "~/.alibabacloud/credentials.",
    )
    region: Literal["cn-beijing", "ap-southeast-1", "us-east-1"] = Field(
        "cn-beijing", description="Region of the key. Host and prices depend on it."
    )
    workspace: str = Field(
        "", pattern=r"^[A-Za-z0-9-]*$", description="Workspace id, to use the workspace's own host."
    )
    base_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Base URL, e.g. of a proxy. Empty: that of the region or workspace.",
    )
    rate_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the account's rate limit that this gateway may use. All processes "
        "that share a PostgreSQL database are one gateway.",
    )
    max_concurrent_calls: int = Field(
        100, ge=1, le=1000, description="Maximum concurrent calls of this process."
    )
    task_calls_per_second: float = Field(20.0, gt=0, description="Rate limit of task polls.")
    temporary_upload: bool = Field(
        default=True, description="Upload audio without a public URL to the provider."
    )


AccountName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,19}$")]


class DashScopeSettings(AccountSettings):
    timeout_seconds: float = Field(
        330.0, gt=0, description="Timeout of one call; the provider's own is 300 s."
    )
    accounts: Annotated[
        dict[AccountName, AccountSettings],
        BeforeValidator(lambda value: {} if value == "" else value),
    ] = Field(
        default_factory=dict,
        description="Further accounts. Set the fields of each, e.g. ACCOUNTS__INTL__API_KEY and "
        "ACCOUNTS__INTL__REGION for an account named intl (also WORKSPACE, BASE_URL and "
        "RATE_SHARE).",
    )
    failover: Annotated[tuple[str, ...], CommaSeparated] = Field(
        (),
        description="Accounts for failover, in order of preference, separated by commas, e.g. "
        "intl,us.",
    )
    omni: bool = Field(
        default=False,
        description="Offer Qwen-Omni: language models, priced per token, which may paraphrase.",
    )

    @model_validator(mode="after")
    def _check_accounts(self) -> Self:
        nameless = [
            name for name, one in self.accounts.items() if not one.api_key.get_secret_value()
        ]
        if nameless:
            raise ValueError(f"ACCOUNTS__{nameless[0].upper()} has no API_KEY of its own")
        if unknown := [name for name in self.failover if name not in self.accounts]:
            raise ValueError(f"FAILOVER names {unknown[0][:20]!r}, which ACCOUNTS does not have")
        if len(set(self.failover)) < len(self.failover):
            raise ValueError("FAILOVER names an account twice")
        if self.failover and not self.api_key.get_secret_value():
            raise ValueError("FAILOVER needs a first account: API_KEY is empty")
        return self
