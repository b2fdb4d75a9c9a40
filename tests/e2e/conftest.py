"""What tests before the simulator ask for."""

import pytest


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again without a rest: what is tried again is the point, not when."""
    monkeypatch.setattr("app.jobs.upstream.retry_policy.backoff_seconds", lambda *_: 0.05)
    monkeypatch.setattr("app.speech.engines.http.admission.BLOCK_SECONDS", 0.05)
