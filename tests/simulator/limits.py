"""Rate limits per key and model, or per key alone, each by its own switch (protocol 2.4)."""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field

from tests.simulator.clock import Clock
from tests.simulator.errors import ApiError, too_often

MINUTE = 60.0
TASK_CALLS = 20
POLICIES = 100


@dataclass(frozen=True)
class Limits:
    """The rate limits, all off by default. A rejected call does not count.

    `rpm`: calls in any 60 s, True for the model's own figure. `per_second`: at most RPM/60, rounded
    up, in any second. `burst`: a bucket of this many calls, full at first and refilled at RPM/60.
    `task_calls`: of one key in any second, for queries, lists and cancellations of all tasks; True
    for the usual 20. `policies`: upload policies of one key and model in any second, True for the
    usual 100. `retry_after`: whether 429 has a Retry-After header.
    """

    rpm: int | bool = False
    per_second: bool = False
    burst: float | None = None
    task_calls: int | bool = False
    policies: int | bool = False
    retry_after: bool = False


@dataclass
class _Account:
    admitted: deque[float] = field(default_factory=deque)
    tokens: float | None = None
    seen_at: float = 0.0


class Gate:
    """Admits calls, or returns the time to wait."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        self._clock = clock
        self._accounts: defaultdict[tuple[str, str], _Account] = defaultdict(_Account)

    def admit(self, key: str, model: str, usual_rpm: int) -> None:
        """Raise the 429 of the first rule broken."""
        rpm = usual_rpm if self.limits.rpm is True else self.limits.rpm or usual_rpm
        account, now = self._accounts[key, model], self._clock.now()
        while account.admitted and account.admitted[0] <= now - MINUTE:
            account.admitted.popleft()
        self._check_minute(account, now, rpm)
        self._check_second(account, now, rpm)
        self._check_burst(account, now, rpm)
        account.admitted.append(now)

    def admit_task_call(self, key: str) -> None:
        most = TASK_CALLS if self.limits.task_calls is True else self.limits.task_calls
        self._admit_in_second(self._accounts[key, "/tasks"], most)

    def admit_policy(self, key: str, model: str) -> None:
        most = POLICIES if self.limits.policies is True else self.limits.policies
        self._admit_in_second(self._accounts[key, f"/uploads {model}"], most)

    def _admit_in_second(self, account: _Account, most: int) -> None:
        now = self._clock.now()
        while account.admitted and account.admitted[0] <= now - 1:
            account.admitted.popleft()
        if most and len(account.admitted) >= most:
            raise self._refusal("Throttling.RateQuota", account.admitted[0] + 1 - now)
        account.admitted.append(now)

    def _check_minute(self, account: _Account, now: float, rpm: int) -> None:
        if self.limits.rpm and len(account.admitted) >= rpm:
            raise self._refusal("Throttling.RateQuota", account.admitted[-rpm] + MINUTE - now)

    def _check_second(self, account: _Account, now: float, rpm: int) -> None:
        most = math.ceil(rpm / MINUTE)
        recent = [at for at in list(account.admitted)[-most:] if at > now - 1]
        if self.limits.per_second and len(recent) >= most:
            raise self._refusal("Throttling.RateQuota", recent[0] + 1 - now)

    def _check_burst(self, account: _Account, now: float, rpm: int) -> None:
        size, rate = self.limits.burst, rpm / MINUTE
        if size is None:
            return
        left = size if account.tokens is None else account.tokens
        left = min(size, left + (now - account.seen_at) * rate)
        account.tokens, account.seen_at = left, now
        if left < 1:
            raise self._refusal("Throttling.BurstRate", (1 - left) / rate)
        account.tokens = left - 1

    def _refusal(self, code: str, wait: float) -> ApiError:
        seconds = self._clock.real_seconds(wait)
        return too_often(code, retry_after=seconds if self.limits.retry_after else None)
