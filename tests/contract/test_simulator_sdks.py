"""The provider's SDKs, each in its own environment, work with the simulator unmodified."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.simulator import Delays, ProviderSimulator, Script, counting
from tests.simulator.file_host import FileHost

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "clients"
TEXT = "欢迎使用阿里云 today"
OPEN = "Qwen/Qwen3-ASR-1.7B"
ONE_POINT_X = ["dashscope-1.24.6", "dashscope-1", "dashscope-2"]

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    async with ProviderSimulator(regions=["cn-beijing", "vllm"], words=Script(TEXT)) as simulator:
        yield simulator


@pytest.fixture
def audio(tmp_path: Path) -> str:
    file = tmp_path / "two.wav"
    file.write_bytes(counting.encode([1, 2]))
    return str(file)


async def run(client: str, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script with the Python of a client's environment, with an empty home directory."""
    python = ROOT / ".venv-clients" / client / "bin" / "python"
    assert python.exists(), "make clients builds the environments of the SDKs"
    home = Path(arguments[-1]).parent
    child = await asyncio.create_subprocess_exec(
        *(python, "-I", SCRIPTS / script, *arguments),
        env={"HOME": str(home), "NO_PROXY": "*", "PYTHONUTF8": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await child.communicate()
    assert child.returncode == 0, said.decode()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def text_of(answer: dict[str, Any]) -> str:
    content = answer["output"]["choices"][0]["message"]["content"]
    return "".join(part["text"] for part in content)


@pytest.mark.parametrize("client", ONE_POINT_X)
async def test_the_interface_of_dashscope_1_works(
    simulator: ProviderSimulator, audio: str, client: str
) -> None:
    found = await run(client, "dashscope_native.py", simulator.url, simulator.key, audio)
    for name in ("whole", "async"):
        assert (found[name]["status"], text_of(found[name])) == (200, TEXT), name
        assert found[name]["seconds"] == 2
    annotations = found["whole"]["output"]["choices"][0]["message"]["annotations"]
    assert annotations[0]["language"] == "zh"
    assert text_of(found["cumulative"][-1]) == TEXT
    assert "".join(map(text_of, found["incremental"])) == TEXT
    assert found["input_audio"]["output"]["text"] == TEXT
    assert found["input_audio"]["duration"] == 2
    refusals = [found[name] for name in ("bad_key", "wrong_model", "bad_url")]
    assert [(one["status"], one["code"]) for one in refusals] == [
        (401, "InvalidApiKey"),
        (400, "InvalidParameter"),
        (400, "InvalidFile.DownloadFailed"),
    ]
    assert {found["whole"]["request_id"], found["async"]["request_id"]} <= {
        line.request_id for line in simulator.bill
    }
    assert all(line.answered for line in simulator.bill)


async def test_the_client_of_dashscope_2_works(simulator: ProviderSimulator, audio: str) -> None:
    found = await run("dashscope-2", "dashscope_two.py", simulator.url, simulator.key, audio)
    assert TEXT in json.dumps(found["whole"], ensure_ascii=False)
    assert len(found["streamed"]) > 2
    assert TEXT in json.dumps(found["compatible"], ensure_ascii=False)
    assert found["bad_key"] == {"type": "AuthenticationError", "status": 401}
    assert found["wrong_model"]["status"] == 400


async def test_the_openai_sdk_works(simulator: ProviderSimulator, audio: str) -> None:
    found = await run(
        "openai", "openai_chat.py", simulator.url, simulator.key, simulator.urls["vllm"], audio
    )
    (choice,) = found["whole"]["choices"]
    assert choice["message"]["content"] == TEXT
    assert choice["message"]["annotations"][0]["language"] == "zh"
    assert found["whole"]["usage"]["seconds"] == 2
    *chunks, last = found["streamed"]
    contents = [chunk["choices"][0]["delta"]["content"] or "" for chunk in chunks]
    assert "".join(contents) == TEXT
    assert last["usage"]["prompt_tokens_details"]["audio_tokens"] == 50
    assert [found[name]["code"] for name in ("bad_key", "wrong_model", "no_model")] == [
        "invalid_api_key",
        "model_not_supported",
        "model_not_found",
    ]
    assert found["bad_key"]["type"] == "AuthenticationError"
    assert found["stream_options"]["code"] == "invalid_parameter_error"
    *spoken, tokens = found["omni"]
    contents = [chunk["choices"][0]["delta"]["content"] or "" for chunk in spoken]
    assert "".join(contents) == TEXT
    assert tokens["usage"]["prompt_tokens_details"]["audio_tokens"] == 25
    assert found["omni_unstreamed"] == {"status": 400, "code": "invalid_parameter_error"}
    assert found["raw"]["choices"][0]["message"]["content"] == f"language English<asr_text>{TEXT}"
    assert found["transcribed"]["text"] == TEXT
    assert OPEN in found["models"]


async def test_the_openai_sdk_retries_after_a_429(simulator: ProviderSimulator, audio: str) -> None:
    simulator.faults.next("429-retry-after")
    script = ("openai_retries.py", simulator.url, simulator.key, audio)
    assert (await run("openai", *script))["text"] == TEXT
    assert [call.status for call in simulator.calls] == [429, 200]
    waited = simulator.calls[1].at - simulator.calls[0].at
    assert 0.9 < waited < 5


@pytest.fixture
async def hosted() -> AsyncIterator[str]:
    """The URL of two seconds of counting audio."""
    async with FileHost({"/two.wav": counting.encode([1, 2])}) as host:
        yield f"{host.url}/two.wav"


@pytest.fixture
async def patient() -> AsyncIterator[ProviderSimulator]:
    """A simulator whose tasks wait long enough for an SDK to cancel one."""
    async with ProviderSimulator(
        delays=Delays(pending=2, running=0.5), words=Script(TEXT)
    ) as simulator:
        yield simulator


def told(answer: dict[str, Any]) -> tuple[int, str]:
    return answer["status"], answer["output"]["task_status"]


async def read(url: str) -> str:
    async with httpx.AsyncClient() as client:
        found: str = (await client.get(url)).json()["transcripts"][0]["text"]
    return found


@pytest.mark.parametrize("client", ONE_POINT_X)
async def test_the_tasks_of_dashscope_1_work(
    patient: ProviderSimulator, audio: str, hosted: str, client: str
) -> None:
    found = await run(client, "dashscope_tasks.py", patient.url, patient.key, hosted, audio)
    assert told(found["submitted"]) == (200, "PENDING")
    assert told(found["fetched"]) in {(200, "PENDING"), (200, "RUNNING")}
    assert told(found["waited"]) == (200, "SUCCEEDED")
    (result,) = found["waited"]["output"]["results"]
    assert await read(result["transcription_url"]) == TEXT
    assert found["waited"]["usage"]["duration"] == 2
    assert told(found["partly"]) == (200, "SUCCEEDED")
    subtasks = [one["subtask_status"] for one in found["partly"]["output"]["results"]]
    assert subtasks == ["SUCCEEDED", "FAILED"]
    assert found["cancelled"]["status"] == 200
    assert told(found["called_off"]) == (200, "CANCELED")
    assert (found["too_late"]["status"], found["too_late"]["code"]) == (400, "UnsupportedOperation")
    assert told(found["unknown"]) == (200, "UNKNOWN")
    listed = [(one["model_name"], one["status"]) for one in found["listed"]["output"]["data"]]
    assert listed == [("fun-asr", "CANCELED")]
    for name in ("bad_key", "bad_key_polls"):
        assert (found[name]["status"], found[name]["code"]) == (401, "InvalidApiKey")
    wrong = found["wrong_model"]
    assert (wrong["status"], wrong["code"]) == (400, "InvalidParameter")
    assert text_of(found["local"]) == TEXT
    check_filetrans(found["filetrans"], client)


def check_filetrans(found: dict[str, Any], client: str) -> None:
    assert bool(found) is (client != "dashscope-1.24.6")
    if found:
        assert told(found["submitted"]) == (200, "PENDING")
        assert told(found["waited"]) == told(found["fetched"]) == (200, "SUCCEEDED")
        assert found["waited"]["usage"]["seconds"] == 2
        assert found["waited"]["output"]["result"]["transcription_url"].startswith("http://")
        assert found["cancelled"]["status"] == 200
        assert told(found["called_off"]) == (200, "CANCELED")


async def test_the_tasks_of_dashscope_2_work(
    patient: ProviderSimulator, audio: str, hosted: str
) -> None:
    script = ("dashscope_two_tasks.py", patient.url, patient.key, hosted, audio)
    found = await run("dashscope-2", *script)
    assert found["created"]["status"] == "PENDING"
    for name in ("waited", "fetched", "default"):
        assert found[name]["status"] == "SUCCEEDED"
        assert found[name]["submitted_at"] < found[name]["finished_at"]
        (result,) = found[name]["results"]
        assert await read(result["transcription_url"]) == TEXT
    assert found["cancelled"]
    assert found["called_off"]["type"] == "DashScopeError"
    assert found["failed"]["type"]
    assert found["unknown"]["status"] == "UNKNOWN"
    assert found["listed"] == 2
    assert found["qwen3"]["status"] == 400
    assert found["bad_key"] == {"type": "AuthenticationError", "status": 401}
    assert TEXT in json.dumps(found["local"], ensure_ascii=False)
    models = [task.model.name for task in patient.tasks if task.status == "SUCCEEDED"]
    assert models == ["fun-asr", "qwen-audio-3.1-asr-flash-filetrans"]
