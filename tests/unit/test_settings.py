"""Settings: each can be set by the environment, each is documented, a wrong one is an error.

Covers: app.settings.audio, app.settings.dashscope, app.settings.database, app.settings.faults,
app.settings.group, app.settings.jobs, app.settings.names, app.settings.provider_key,
app.settings.server, app.settings.speech
"""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, faults_of
from app.settings.provider_key import where_key_is
from tests.support.env_example import FILE, names, rendered

LOCAL = Path(__file__).parents[2]


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"GATEWAY_{name}", value)
    return Settings(_env_file=None)  # type: ignore[call-arg]


def test_the_example_file_names_every_setting_with_its_default() -> None:
    assert FILE.read_text() == rendered(), "python -m tests.support.env_example writes it anew"


def test_the_example_file_has_only_comments() -> None:
    assert all(line.startswith("#") or not line for line in FILE.read_text().splitlines())


def test_the_defaults_of_the_example_file_are_the_settings_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [line[2:] for line in FILE.read_text().splitlines() if line.startswith("# GATEWAY_")]
    assert len(lines) == len(names())
    given = dict(line.removeprefix("GATEWAY_").split("=", 1) for line in lines)
    assert settings(monkeypatch, **given) == Settings(_env_file=None)  # type: ignore[call-arg]


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, ACCESS__PEPPERS="new, old,", LOCAL__SOURCES="wheels,hub")
    assert [pepper.get_secret_value() for pepper in found.access.peppers] == ["new", "old"]
    assert found.local.sources == ("wheels", "hub")
    assert settings(monkeypatch, ACCESS__PEPPERS="", LOCAL__SOURCES="").access.peppers == []


def test_origins_are_written_as_browsers_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given = "https://App.Example:443, http://localhost:5173,http://[::1]:80,tauri://localhost,*"
    assert settings(monkeypatch, SERVER__CORS_ORIGINS=given).server.cors_origins == (
        "https://app.example",
        "http://localhost:5173",
        "http://[::1]",
        "tauri://localhost",
        "*",
    )


@pytest.mark.parametrize(
    "value", ["app.example", "https://app.example/", "https://a.example/x", "null", "https://*.a.b"]
)
def test_an_invalid_origin_is_rejected_with_a_message(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(monkeypatch, SERVER__CORS_ORIGINS=value)
    (sentence,) = faults_of(refused.value)
    assert sentence.startswith("GATEWAY_SERVER__CORS_ORIGINS: An origin is a scheme and a host")
    assert value not in sentence.replace("https://app.example", "")


def test_peppers_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "canary" not in repr(settings(monkeypatch, ACCESS__PEPPERS="canary"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER__PORT", "70000"),
        ("SERVER__TYPO", "1"),
        ("LOCAL__SOURCES", "elsewhere"),
        ("JOBS__IN_DOUBT", "perhaps"),
        ("LOG__LEVEL", "LOUD"),
        ("AUDIO__MAX_SECONDS", "0"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        settings(monkeypatch, **{name: value})


def test_the_default_database_is_a_file_in_data_dir(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (
        settings(monkeypatch, DATA_DIR="/srv/asr").database_url == "sqlite:////srv/asr/gateway.db"
    )
    elsewhere = settings(monkeypatch, DATABASE__URL="postgresql://u:p@h/d")
    assert elsewhere.database_url == "postgresql://u:p@h/d"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GATEWAY_SERVER__PORT": "abc"}, ["GATEWAY_SERVER__PORT"]),
        (
            {"GATEWAY_SERVER__PORT": "-1", "GATEWAY_LOCAL__SOURCES": "here"},
            ["GATEWAY_SERVER__PORT", "GATEWAY_LOCAL__SOURCES"],
        ),
        ({"GATEWAY_JOBS__TYPO": "1"}, ["GATEWAY_JOBS__TYPO"]),
        ({"GATEWAY_SERVER": "no json"}, ["GATEWAY_SERVER"]),
    ],
)
def test_the_command_line_prints_a_sentence_per_wrong_setting(
    tmp_path: Path, variables: dict[str, str], said: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "keys", "list"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(LOCAL), "GATEWAY_DATA_DIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(said)
    assert all(name in line for name, line in zip(said, lines, strict=True))


def test_the_key_is_read_from_the_providers_own_variable_and_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def key() -> str:
        return settings(monkeypatch).dashscope.api_key.get_secret_value()

    def where() -> str:
        return where_key_is(settings(monkeypatch))

    assert (key(), settings(monkeypatch).default_model) == ("", "local/base")
    credentials = tmp_path / "credentials"
    credentials.write_text('[default]\ntype = x\ndashscope_api_key = "sk-file"\n')
    monkeypatch.setattr("app.settings.provider_key.PROVIDER_FILE", credentials)
    assert (key(), settings(monkeypatch).default_model) == ("sk-file", "qwen3-asr-flash")
    assert where() == f"dashscope_api_key in {credentials}"
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-env")
    assert (key(), where()) == ("sk-env", "DASHSCOPE_API_KEY")
    monkeypatch.setenv("GATEWAY_DASHSCOPE__API_KEY", "sk-ours")
    assert (key(), where()) == ("sk-ours", "GATEWAY_DASHSCOPE__API_KEY")
    monkeypatch.setenv("GATEWAY_DASHSCOPE__API_KEY", "")
    assert key() == ""


def test_a_settings_file_may_have_dashscope_api_key(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("DASHSCOPE_API_KEY=sk-dotenv\nGATEWAY_DASHSCOPE__REGION=us-east-1\n")
    found = Settings(_env_file=file)  # type: ignore[call-arg]
    assert found.dashscope.api_key.get_secret_value() == "sk-dotenv"
    assert found.dashscope.region == "us-east-1"
    assert "sk-dotenv" not in repr(found)


def test_further_accounts_have_names_keys_and_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = settings(
        monkeypatch,
        DASHSCOPE__API_KEY="sk-first",
        DASHSCOPE__ACCOUNTS__INTL__API_KEY="sk-canary",
        DASHSCOPE__ACCOUNTS__INTL__REGION="ap-southeast-1",
        DASHSCOPE__ACCOUNTS__Us_Two__API_KEY="sk-us",
        DASHSCOPE__ACCOUNTS__Us_Two__REGION="us-east-1",
        DASHSCOPE__FAILOVER="us_two, intl",
    ).dashscope
    assert found.failover == ("us_two", "intl")
    assert (found.region, found.accounts["intl"].region) == ("cn-beijing", "ap-southeast-1")
    assert found.accounts["us_two"].api_key.get_secret_value() == "sk-us"
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ACCOUNTS__INTL__REGION": "us-east-1"}, "ACCOUNTS__INTL has no API_KEY"),
        ({"FAILOVER": "intl"}, "'intl', which ACCOUNTS does not have"),
        ({"ACCOUNTS__INTL__API_KEY": "k", "FAILOVER": "intl"}, "API_KEY is empty"),
        ({"ACCOUNTS__INTL__API_KEY": "k", "API_KEY": "k", "FAILOVER": "intl,intl"}, "twice"),
        ({"ACCOUNTS__INTL__API_KEY": "k", "ACCOUNTS__INTL__HOST": "x"}, "HOST is not a setting"),
        ({"ACCOUNTS__a.b__API_KEY": "k"}, "should match pattern"),
    ],
)
def test_an_account_without_a_key_is_rejected(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    given = {f"DASHSCOPE__{name}": value for name, value in variables.items()}
    with pytest.raises(ValidationError, match=said):
        settings(monkeypatch, **given)


def sentences_of(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        settings(monkeypatch, **{name: value})
    return list(faults_of(refused.value))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SERVR__PORT", "SERVER__PORT"),
        ("SERVER__PROT", "SERVER__PORT"),
        ("SERVER_PORT", "SERVER__PORT"),
        ("SERVER___PORT", "SERVER__PORT"),
        ("server_port", "SERVER__PORT"),
        ("PORT", "SERVER__PORT"),
        ("DASHSCOPE_API_KEY", "DASHSCOPE__API_KEY"),
        ("DASHSCOPE__API_KEYS", "DASHSCOPE__API_KEY"),
        ("API_KEY", "DASHSCOPE__API_KEY or GATEWAY_OPENAI__API_KEY"),
        ("DATABASE_URL", "DATABASE__URL"),
        ("DB__URL", "DATABASE__URL"),
        ("DATADIR", "DATA_DIR"),
        ("DATA__DIR", "DATA_DIR"),
        ("DATA_DIR__X", "DATA_DIR"),
        ("MAX_SECONDS", "AUDIO__MAX_SECONDS"),
        ("SPEACH__DEFAULT_MODEL", "SPEECH__DEFAULT_MODEL"),
        ("DASHSCOPE_ACCOUNTS_US_TWO_API_KEY", "DASHSCOPE__ACCOUNTS__US_TWO__API_KEY"),
        ("DASHSCOPE__ACCOUNTS__INTL__REGON", "DASHSCOPE__ACCOUNTS__INTL__REGION"),
        ("DASHSCOPE__ACCOUNTS__INTL", "DASHSCOPE__ACCOUNTS__INTL__API_KEY"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_name_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    """CASES §5: a variable of ours that is no setting was ignored in silence."""
    assert sentences_of(monkeypatch, name, "canary") == [
        f"GATEWAY_{name.upper()} is not a setting; did you mean GATEWAY_{meant}?"
    ]


def test_an_unknown_variable_without_a_similar_name_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (sentence,) = sentences_of(monkeypatch, "QWERTZ", "1")
    assert sentence == "GATEWAY_QWERTZ is not a setting; the file .env.example lists all of them."


def test_a_group_is_not_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    (sentence,) = sentences_of(monkeypatch, "SERVER", "{}")
    assert sentence.startswith("GATEWAY_SERVER is not a setting; did you mean GATEWAY_SERVER__HOST")


def test_a_setting_under_the_prefix_of_the_command_line_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASR_GATEWAY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ASR_GATEWAY_VERBOSE", "1")
    assert settings(monkeypatch).server.port == 8000
    monkeypatch.setenv("ASR_GATEWAY_SERVER__PORT", "1")
    with pytest.raises(ValidationError, match="did you mean GATEWAY_SERVER__PORT"):
        settings(monkeypatch)


def test_variables_that_describe_services_of_a_cluster_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kubernetes sets these in every pod beside a service called `gateway`."""
    ours = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT": "tcp://10.0.0.1:8000",
        "PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "PORT_8000_TCP_ADDR": "10.0.0.1",
        "API_SERVICE_HOST": "10.0.0.2",
    }
    assert settings(monkeypatch, **ours).server.port == 8000


def test_unknown_variables_in_the_settings_file_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_JOB__WORKER", "1")
    file = tmp_path / ".env"
    file.write_text("POSTGRES_PASSWORD=x\nGATEWAY_DASHSCOPE_API_KEY=canary\n")
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=file)  # type: ignore[call-arg]
    meant = "did you mean GATEWAY_DASHSCOPE__API_KEY?"
    assert list(faults_of(refused.value)) == [
        "GATEWAY_JOB__WORKER is not a setting; did you mean GATEWAY_JOBS__WORKER?",
        f"GATEWAY_DASHSCOPE_API_KEY in .env is not a setting; {meant}",
    ]


def test_the_settings_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbfGATEWAY_SERVER__PORT=9000\r\n")
    assert Settings(_env_file=file).server.port == 9000  # type: ignore[call-arg]


def test_a_settings_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes("GATEWAY_SERVER__PORT=9000\n".encode("utf-16"))
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=file)  # type: ignore[call-arg]
    assert list(faults_of(refused.value)) == [
        "The settings file .env cannot be read: it is not UTF-8 text."
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AUDIO__MAX_SECONDS", "12h", "must be a whole number of seconds, e.g. 43200."),
        ("AUDIO__MAX_SECONDS", "", "must be a whole number of seconds, e.g. 43200."),
        ("AUDIO__MAX_UPLOAD_BYTES", "2GB", "must be a whole number of bytes, e.g. 2147483648."),
        ("AUDIO__PROBE_TIMEOUT_SECONDS", "15s", "must be a number of seconds, e.g. 15."),
        ("JOBS__LEASE_SECONDS", "nan", "must be a number of seconds, e.g. 30."),
        ("JOBS__LEASE_SECONDS", "0", "must be at least 1."),
        ("STREAM__POLL_SECONDS", "0", "must be more than 0."),
        ("SERVER__PORT", "70000", "must be at most 65535."),
        ("DASHSCOPE__RATE_SHARE", "50%", "must be a number, e.g. 1."),
        ("FETCH__PORTS", "a,443,b", "must be a whole number, e.g. 443."),
        ("FETCH__ENABLED", "maybe", "must be true or false."),
        ("LOG__LEVEL", "LOUD", "must be DEBUG, INFO, WARNING or ERROR."),
        ("LOCAL__SOURCES", "here", "must be hub or wheels."),
        ("SERVER__PUBLIC_URL", "a.example", "must be an address such as https://asr.example.org."),
        ("DASHSCOPE__WORKSPACE", "a b", "must consist of letters, digits and hyphens."),
        (
            "FETCH__ALLOW_ADDRESSES",
            "home",
            "must be networks in CIDR notation, separated by commas, e.g. 10.0.0.0/8.",
        ),
    ],
)
def test_a_wrong_value_is_explained_in_our_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """CASES §5: the words of the validator ("Input should be ...") did not name units."""
    assert sentences_of(monkeypatch, name, value) == [f"GATEWAY_{name} {said}"]
