"""A check of a DashScope account from this machine. It is never billed.

The check asks for a task that does not exist. With a valid key the answer is that there is no such
task. A key is only sent to its own host, so a key of another region is rejected there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from app.kit.clock import parse_http_date
from app.net.connectivity import try_request
from app.net.http.exchange import OK, Answer
from app.settings import DashScopeSettings
from app.speech.engine import ErrorKind
from app.speech.engines.dashscope.errors import SERVER_ERROR, code_in, dashscope_error
from app.speech.engines.http.json_reading import member, read_object, text_of
from app.speech.engines.http.provider_account import ProviderAccount, dashscope_account
from app.speech.planning.failover import account_engine_name

ENGINE = "dashscope"
UNKNOWN_TASK = "/api/v1/tasks/00000000-0000-4000-8000-000000000000"
CHECK_SECONDS = 10.0
UNAUTHORIZED = 401


class KeyVerdict(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"  # mistyped, revoked, or a key of another region
    DENIED = "denied"  # valid, but the account or the workspace has no access; see `code`
    UNKNOWN = "unknown"  # the service fails, or the host is not DashScope


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """The result of a check. `skew_seconds`: by how much our clock is ahead, None if unknown."""

    verdict: KeyVerdict
    status: int
    code: str
    skew_seconds: float | None


@dataclass(frozen=True, slots=True)
class ConfiguredAccount:
    """A provider account under its name in the settings."""

    name: str
    account: ProviderAccount

    @property
    def host(self) -> str:
        return urlsplit(self.account.base_url).netloc

    async def check(self) -> KeyCheck:
        """Send one request to the host. Raises ConnectivityError."""
        answer = await try_request(
            self.account.base_url,
            UNKNOWN_TASK,
            headers=self.account.headers(),
            deadline_seconds=CHECK_SECONDS,
        )
        return read_check(answer, datetime.now(UTC))


def configured_accounts(settings: DashScopeSettings) -> Iterator[ConfiguredAccount]:
    """Yield every account that has a key."""
    if settings.api_key.get_secret_value():
        yield ConfiguredAccount(ENGINE, dashscope_account(settings))
    for name, other in settings.accounts.items():
        yield ConfiguredAccount(account_engine_name(ENGINE, name), dashscope_account(other))


def read_check(answer: Answer, now: datetime) -> KeyCheck:
    """Read the answer to a check. Pure."""
    code = code_in(answer.body)
    server_time = parse_http_date(answer.headers.get("date", ""))
    skew = None if server_time is None else (now - server_time).total_seconds()
    is_dashscope = bool(code or text_of(member(read_object(answer.body), "request_id")))
    # With status 200 only the code decides whether the error is about the account.
    kind = dashscope_error(OK, answer.headers, answer.body).kind if code else None
    if answer.status == UNAUTHORIZED:
        verdict = KeyVerdict.REJECTED
    elif answer.status >= SERVER_ERROR or not is_dashscope:
        verdict = KeyVerdict.UNKNOWN
    else:
        verdict = KeyVerdict.DENIED if kind is ErrorKind.ACCOUNT else KeyVerdict.ACCEPTED
    return KeyCheck(verdict, answer.status, code, skew)
