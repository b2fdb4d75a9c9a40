"""Fixtures for tests with the provider simulator."""

import pytest


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without delays: the tests check the retries, not their times."""
    monkeypatch.setattr("app.jobs.upstream.retry_policy.backoff_seconds", lambda *_: 0.05)
    monkeypatch.setattr("app.speech.engines.http.admission.BLOCK_SECONDS", 0.05)
