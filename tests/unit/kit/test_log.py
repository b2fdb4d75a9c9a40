"""Tests of app.kit.log.

Covers: app.kit.log, app.kit.redaction, app.kit.secrets
"""

import errno
import json
import logging
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit import log
from app.kit.redaction import MASK, redact_text
from app.kit.secrets import mint_key

KEY = mint_key()
SECRETS = {
    KEY: KEY,
    "sk-0123456789abcdefdeadbeef": "sk-0123456789abcdefdeadbeef",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "https://anna:hunter2@example.org/a": "hunter2",
    "postgresql://gateway:s3cret-pw@db:5432/asr": "s3cret-pw",
    "redis://:onlypassword@cache:6379/0": "onlypassword",
    "https://o.example/a.mp3?Expires=1&OSSAccessKeyId=x&Signature=aB%2Fc9%3D": "aB%2Fc9%3D",
    "https://s3/a?X-Amz-Credential=c&X-Amz-Signature=fe54c1&x=1": "fe54c1",
    "https://s3/a?x-amz-security-token=FwoGZXIvYXdz&a=1": "FwoGZXIvYXdz",
    "https://h/blob?sig=Zm9vYmFy": "Zm9vYmFy",
    "https://h/blob?a=1&token=eyJhbGciOi": "eyJhbGciOi",
    "Authorization: Bearer abcdef0123456789": "abcdef0123456789",
}
SECRET_IDS = ["ours", *list(SECRETS)[1:]]  # the same in every process that collects them


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Undo the effects of `configure` on the process."""
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, vars(log.log).copy()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    vars(log.log).update(ours)


@pytest.mark.parametrize(("text", "secret"), SECRETS.items(), ids=SECRET_IDS)
def test_a_secret_in_a_text_is_masked_and_its_neighbours_stay(text: str, secret: str) -> None:
    masked = redact_text(f"before {text} after")
    assert secret not in masked
    assert MASK in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")


@pytest.mark.parametrize(
    "text", ["a task-list for the_gw", "https://example.org/a?b=c", "12:30@noon"]
)
def test_other_text_is_not_masked(text: str) -> None:
    assert redact_text(text) == text


@given(before=st.text(st.characters(categories=["Zs", "Po"])), after=st.text())
def test_a_key_is_masked_in_any_context(before: str, after: str) -> None:
    assert KEY not in redact_text(f"{before}{KEY} {after}")


@pytest.mark.parametrize(("text", "secret"), SECRETS.items(), ids=SECRET_IDS)
def test_no_line_of_any_logger_shows_a_secret(
    capsys: pytest.CaptureFixture[str], text: str, secret: str
) -> None:
    log.configure(level="INFO", line_format="json")
    log.log.info("event", url=text, headers={"a": text}, several=[text, (text,)])
    log.log.info(f"event {text}")
    logging.getLogger("library").warning("said %s", text)
    logging.getLogger("library").warning("said %s", {"deep": [text]})
    try:
        raise ValueError(text)  # noqa: TRY301
    except ValueError:
        logging.getLogger("library").exception("broke")
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 5
    assert secret not in written


@pytest.mark.parametrize("field", ["key", "authorization", "text", "transcript", "password"])
def test_private_fields_are_masked_at_any_depth(
    capsys: pytest.CaptureFixture[str], field: str
) -> None:
    log.configure(level="INFO", line_format="json")
    log.log.info("event", **{field: "canary"}, inside={field: "canary"})
    line = json.loads(capsys.readouterr().err)
    assert line[field] == MASK
    assert "canary" not in str(line)


def test_a_line_is_one_json_object_with_level_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level="INFO", line_format="json")
    log.log.warning("job.settled", job="tr_1", seconds=2.5)
    log.log.debug("unseen")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["seconds"]) == ("job.settled", "warning", 2.5)
    assert line["timestamp"].endswith("Z")
    assert not capsys.readouterr().out


def test_libraries_do_not_log_urls(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level="INFO", line_format="json")
    logging.getLogger("httpx").info("HTTP Request: GET https://user:pw@h/a?sig=x")
    assert not capsys.readouterr().err


class Canary(Exception):
    """An error whose message quotes content of a request."""


def caught(problem: BaseException) -> BaseException:
    try:
        raise problem  # noqa: TRY301
    except BaseException as error:  # noqa: BLE001
        return error


@pytest.mark.parametrize(
    "make",
    [
        Canary,
        lambda words: OSError(errno.EIO, words),
        OSError,
        lambda words: FileNotFoundError(errno.ENOENT, "No such file or directory", words),
        lambda words: ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed ({words})"),
        lambda words: ExceptionGroup(words, [Canary(words), OSError(5, words)]),
        lambda words: UnicodeDecodeError("utf-8", words.encode(), 0, 1, words),
    ],
)
def test_a_logged_exception_has_no_message(
    make: Callable[[str], Exception],
) -> None:
    words = "canary sk-secret"
    try:
        try:
            raise make(words)  # noqa: TRY301
        except Exception as inner:
            raise make(words) from inner
    except Exception as error:  # noqa: BLE001
        error.add_note(words)
        scenario = log.safe_traceback(error)
    assert "canary" not in str(scenario)
    assert len([line for line in scenario if not line.startswith(" ")]) >= 2


def test_a_logged_oserror_has_the_systems_message() -> None:
    problem = caught(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/private/path"))
    (first, frame) = log.safe_traceback(problem)
    assert first == f"builtins.OSError: {os.strerror(errno.ENOSPC)}"
    assert frame.startswith("  ")
    assert frame.endswith(" caught")
