"""`asr-gateway transcribe` with a running gateway and with a gateway in its own process.

Covers: app.cli.connect, app.cli.local_gateway, app.cli.transcribe.batch,
app.cli.transcribe.command, app.net.api_client
"""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest

from app import __version__
from tests.support.command import begun, call, run
from tests.support.gateway import speech
from tests.support.process import REPOSITORY, GatewayProcess
from tests.support.simulated_gateway import fast_catalogue

CONTAINERS = ("wav", "mp3", "flac", "ogg", "m4a", "mkv")
COUNT, BROKEN = 40, 2
DONE = re.compile(r"(\d+) % *(\d+) of (\d+) s of audio")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with a slow engine, so that progress is visible."""
    process = GatewayProcess(
        tmp_path_factory.mktemp("gateway"), delay_seconds=0.3, settings={"AUDIO__FSYNC": "false"}
    )
    with process.gone_at_the_end():
        process.start()
        yield process


def mixed(folder: Path) -> None:
    """Create 40 audio files of several kinds in three folders; the 7th and the 23rd are damaged."""
    for number in range(COUNT):
        kind = CONTAINERS[number % len(CONTAINERS)]
        # Names recur in other folders, and in one folder with another suffix.
        file = folder / f"day{number % 3}" / f"call-{number // 2}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample(folder.parent, kind), file)
    damaged = sorted(path for path in folder.rglob("*") if path.suffix in {".m4a", ".mp3"})
    damaged[0].write_bytes(damaged[0].read_bytes()[:40])
    damaged[1].write_text("this is a letter, not a recording")


def sample(folder: Path, kind: str) -> Path:
    file = folder / f"sample.{kind}"
    if not file.exists():
        (folder / "speech.wav").write_bytes(speech(1 + CONTAINERS.index(kind)))
        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
        command = [ffmpeg, "-v", "error", "-i", str(folder / "speech.wav"), str(file)]
        subprocess.run(command, check=True)
    return file


def settings_of(gateway: GatewayProcess) -> dict[str, str]:
    return gateway.environment() | {"ASR_GATEWAY_URL": gateway.url}


def test_the_bar_of_forty_files_with_two_damaged_ones_never_decreases(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    mixed(tmp_path / "calls")
    words = ("transcribe", "calls", "--output-dir", "out")
    with begun(*words, cwd=tmp_path, environment=settings_of(gateway), terminal=True) as child:
        assert child.ended() == 1, child.told
    texts = sorted((tmp_path / "out").rglob("*.txt"))
    assert len(texts) == len(list((tmp_path / "out").rglob("*.json"))) == COUNT - BROKEN
    assert {text.read_text() for text in texts} == {"heard\n"}
    assert not [part for part in (tmp_path / "out").rglob("*") if part.name.startswith(".")]
    assert (tmp_path / "stdout").read_bytes() == b""

    bar = [tuple(map(int, found)) for found in DONE.findall(child.told)]
    assert len(set(bar)) > 4, child.told
    assert [share for share, _, _ in bar] == sorted(share for share, _, _ in bar)
    assert [done for _, done, _ in bar] == sorted(done for _, done, _ in bar)
    assert all(done <= total for _, done, total in bar)
    lines = [line.strip() for line in child.told.replace("\r", "\n").splitlines()]
    errors = {line for line in lines if line.endswith(".") and "calls/day" in line}
    assert len(errors) == BROKEN, lines
    assert "38 of 40 transcribed, in out; 2 failed." in child.told


def test_without_a_terminal_each_file_is_a_line_in_order(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.wav").write_bytes(speech(1))
    (tmp_path / "bad.wav").write_text("no sound")
    done = call(
        *("transcribe", "b.wav", "--audio", "bad.wav", "--audio", "c.wav", "a.wav"),
        cwd=tmp_path,
        environment=settings_of(gateway),
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["b.wav", "a.wav", "bad.wav", "c.wav"]
    assert lines[0] == "b.wav: 1 s of audio, output/ai-audio-asr/transcripts/b.txt"
    assert lines[-1] == "3 of 4 transcribed, in output/ai-audio-asr/transcripts; 1 failed."


def test_the_text_of_one_file_is_printed_and_written(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(speech(2))
    done = call(
        *("transcribe", "a.wav", "--language-hints", "en,zh", "--language-hints", "de"),
        *("--context", "Dashwood", "--model", "scripted/echo", "--format", "srt"),
        cwd=tmp_path,
        environment=settings_of(gateway),
        OUTPUT_DIR=str(tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1\n00:00:0")
    assert "heard" in done.stdout
    assert (tmp_path / "out" / "a.srt").read_text().strip() == done.stdout.strip()
    assert (tmp_path / "out" / "a.txt").read_text() == "heard\n"
    kept = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (kept["status"], kept["reference"], kept["audio"]["seconds"]) == (
        "completed",
        "a.wav",
        2,
    )
    assert "a.wav: scripted/echo does not support the language `de`." in done.stderr.splitlines()


def test_print_response_prints_the_answer_of_the_api(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(speech(1))
    words = ("transcribe", "--print-response")
    single = call(*words, "a.wav", cwd=tmp_path, environment=settings_of(gateway))
    assert json.loads(single.stdout)["text"] == "heard"
    several = call(*words, "a.wav", "b.wav", cwd=tmp_path, environment=settings_of(gateway))
    answers = [json.loads(line) for line in several.stdout.splitlines()]
    assert [answer["reference"] for answer in answers] == ["a.wav", "b.wav"]


def test_async_prints_the_id_and_ends(gateway: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(speech(1))
    done = call("transcribe", "a.wav", "--async", cwd=tmp_path, environment=settings_of(gateway))
    assert (done.returncode, done.stderr) == (0, "a.wav: submitted.\n")
    with urllib.request.urlopen(f"{gateway.url}/v1/transcriptions/{done.stdout.strip()}") as got:
        assert json.load(got)["mode"] == "async"
    assert not (tmp_path / "output").exists()


def test_wait_0_prints_the_ids_of_open_jobs(gateway: GatewayProcess, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(speech(1))
    words = ("transcribe", "a.wav", "--wait", "0")
    done = call(*words, cwd=tmp_path, environment=settings_of(gateway))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"still running: tr_[0-9a-f]{32} \(a\.wav\)", done.stderr)


def test_wait_0_prints_the_number_of_unsent_files(gateway: GatewayProcess, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.wav").write_bytes(speech(1, start=number % 9))
    words = ("transcribe", str(tmp_path), "--wait", "0")
    done = call(*words, cwd=tmp_path, environment=settings_of(gateway))
    left = re.search(r"(\d+) more were not sent\.", done.stderr)
    assert left is not None, done.stderr
    assert len(re.findall(r"tr_[0-9a-f]{32}", done.stderr)) + int(left[1]) == 12


# ── a gateway of its own ────────────────────────────────────────────────────────────────────


@pytest.fixture
def before_a_simulator(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a caller with a DashScope key and a simulator as DashScope."""
    simulator = subprocess.Popen(
        [sys.executable, "-m", "tests.simulator", "--port", "0", "--say", "Good morning."],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert simulator.stdout is not None
        told = next(line for line in simulator.stdout if line.startswith("cn-beijing: "))
        _, url, _, key = told.split()
        settings = {
            "DASHSCOPE__API_KEY": key,
            "DASHSCOPE__BASE_URL": f"{url}/api/v1",
            "SPEECH__CATALOGUE": str(fast_catalogue(tmp_path)),
            "SPEECH__DEFAULT_MODEL": "qwen3-asr-flash",
            "LOCAL__ENABLED": "false",
        }
        yield GatewayProcess(tmp_path, settings=settings).environment()
    finally:
        simulator.terminate()
        simulator.communicate(timeout=20)


def test_without_an_address_a_gateway_runs_in_the_same_process(
    before_a_simulator: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(speech(2))
    done = run("transcribe", "a.wav", cwd=tmp_path, environment=before_a_simulator)
    assert (done.returncode, done.stdout) == (0, "Good morning.\n"), done.stderr
    # The first one is gone, or the second could not open its database.
    listed = run("jobs", "list", "--json", cwd=tmp_path, environment=before_a_simulator)
    (job,) = json.loads(listed.stdout)
    assert (job["status"], job["reference"]) == ("completed", "a.wav")


def test_a_database_in_use_is_reported_in_one_sentence(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(speech(1))
    done = call("transcribe", "a.wav", cwd=tmp_path, environment=gateway.environment())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "Another gateway already serves gateway.db" in done.stderr
    assert "ASR_GATEWAY_URL" in done.stderr


def test_options_of_a_request_are_options_of_the_command(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    """CASES §5: there was no --language, --word-times, --max-cost or --strict."""
    (tmp_path / "speech.wav").write_bytes(speech(1))
    environment = settings_of(gateway)
    words = ("transcribe", "speech.wav", "--output-dir", "out", "--print-response")
    given = ("--language", "en", "--word-times", "--max-cost", "5")
    done = run(*words, *given, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    strict = run(*words, *given, "--strict", cwd=tmp_path, environment=environment)
    assert (strict.returncode, strict.stderr) == (0, done.stderr)
    unknown = run(*words, "--language", "klingonese", cwd=tmp_path, environment=environment)
    assert (unknown.returncode, "language" in unknown.stderr) == (1, True)
    dear = run(*words, "--max-cost", "0.000001", cwd=tmp_path, environment=environment)
    assert (dear.returncode, dear.stdout) == (1, "")


def test_the_version_and_the_help_have_their_usual_options(tmp_path: Path) -> None:
    """CASES §5: `--version` and `-h` were usage errors."""
    shown = run("--version", cwd=tmp_path, environment={})
    assert (shown.returncode, shown.stdout) == (0, f"{__version__}\n")
    for words in ((), ("jobs",), ("jobs", "list"), ("transcribe",)):
        shown = run(*words, "-h", cwd=tmp_path, environment={})
        assert shown.returncode == 0, shown.stderr
        assert "Usage:" in shown.stdout


def test_a_price_of_an_unknown_region_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    """CASES §5: `prices set` took any region, whose price was never used."""
    words = ("prices", "set", "scripted/echo", "0.5", "--currency", "CNY", "--region", "cn-bejing")
    done = run(*words, cwd=tmp_path, environment=settings_of(gateway))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("There is no region cn-bejing; the regions are ap-southeast-1, ")
