"""Whether a DashScope account can be used from here: one look that is never billed.

It asks for a task that nobody ever made. Who has a good key is told that there is none; the key
goes to its own host only, so a key of another region is refused here like a mistyped one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from app.kit.clock import parse_http_date
from app.net.connectivity import look
from app.net.http.exchange import Answer
from app.settings import DashScopeSettings
from app.speech.engine import ErrorKind
from app.speech.engines.dashscope.errors import code_in, parse_error
from app.speech.engines.http.account import ProviderAccount, dashscope_bundle
from app.speech.engines.http.json_body import member, read_object, text_of
from app.speech.planning.failover import bundle_name

ENGINE = "dashscope"
NOBODYS_TASK = "/api/v1/tasks/00000000-0000-4000-8000-000000000000"
LOOK_SECONDS = 10.0
UNAUTHORIZED, SERVER_ERRORS = 401, 500


class KeyVerdict(StrEnum):
    TAKEN = "taken"
    REJECTED = "refused"  # mistyped, revoked, or another region's
    DENIED = "denied"  # known, but the account or the workspace may not: `code` says why
    UNKNOWN = "unknown"  # the service is ill, or this is not DashScope


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen. `skew_seconds`: how far our clock is ahead of theirs, None where not told."""

    verdict: KeyVerdict
    status: int
    code: str
    skew_seconds: float | None


@dataclass(frozen=True, slots=True)
class Account:
    """A bundle of key and host, under the name it has in the settings."""

    name: str
    bundle: ProviderAccount

    @property
    def host(self) -> str:
        return urlsplit(self.bundle.base_url).netloc

    async def look(self) -> Look:
        """Ask the host once. Raises ObstructedError."""
        answer = await look(
            self.bundle.base_url,
            NOBODYS_TASK,
            headers=self.bundle.headers(),
            deadline_seconds=LOOK_SECONDS,
        )
        return read_look(answer, datetime.now(UTC))


def accounts(settings: DashScopeSettings) -> Iterator[Account]:
    """Yield every account that has a key."""
    if settings.api_key.get_secret_value():
        yield Account(ENGINE, dashscope_bundle(settings))
    for name, other in settings.accounts.items():
        yield Account(bundle_name(ENGINE, name), dashscope_bundle(other))


def read_look(answer: Answer, now: datetime) -> Look:
    """Judge the answer to the question for nobody's task. Pure."""
    code = code_in(answer.body)
    return Look(_verdict(answer, code), answer.status, code, _skew(answer, now))


def _verdict(answer: Answer, code: str) -> KeyVerdict:
    if answer.status == UNAUTHORIZED:
        return KeyVerdict.REJECTED
    if answer.status >= SERVER_ERRORS or not _is_theirs(answer, code):
        return KeyVerdict.UNKNOWN
    if code and _is_denial(answer):
        return KeyVerdict.DENIED
    return KeyVerdict.TAKEN


def _is_denial(answer: Answer) -> bool:
    """Tell whether an error's code, apart from what its status says, is about the account."""
    error = parse_error(200, answer.headers, answer.body)
    return error.kind is ErrorKind.ACCOUNT


def _is_theirs(answer: Answer, code: str) -> bool:
    return bool(code or text_of(member(read_object(answer.body), "request_id")))


def _skew(answer: Answer, now: datetime) -> float | None:
    theirs = parse_http_date(answer.headers.get("date", ""))
    return None if theirs is None else (now - theirs).total_seconds()
