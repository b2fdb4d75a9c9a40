"""The simulator's temporary uploads: policy, form, `oss://` addresses, every rejection."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.simulator import Delays, ProviderSimulator, Script, counting
from tests.simulator.client import SimulatorClient, filetrans, form_of, qwen3, transcription
from tests.simulator.server import POLICY

AUDIO = counting.encode([1])
HOUR = 3600
RESOLVE = {"X-DashScope-OssResourceResolve": "enable"}

pytestmark = pytest.mark.anyio


@pytest.fixture
async def simulator() -> AsyncIterator[ProviderSimulator]:
    keys = {"cn-beijing": ["sk-one", "sk-two"]}
    async with ProviderSimulator(
        keys=keys, delays=Delays(0, 0), words=Script("hello")
    ) as simulator:
        yield simulator


@pytest.fixture
async def ask(simulator: ProviderSimulator) -> AsyncIterator[SimulatorClient]:
    async with httpx.AsyncClient() as client:
        yield SimulatorClient(simulator, client)


async def uploaded(ask: SimulatorClient, model: str = "qwen3-asr-flash", **given: Any) -> str:
    found = await ask.policy(model, **given)
    assert (await ask.upload(found, AUDIO)).status_code == 200
    return f"oss://{found['upload_dir']}/a.wav"


async def test_a_policy_has_the_fields_of_the_upload(ask: SimulatorClient) -> None:
    found = await ask.policy("qwen3-asr-flash")
    assert found["upload_host"].startswith(ask.simulator.store_url)
    assert found["upload_dir"].startswith("dashscope-instant/")
    sizes = (found["expire_in_seconds"], found["max_file_size_mb"], found["capacity_limit_mb"])
    assert sizes == (300, 1024, 999_999_999)
    conditions = json.loads(base64.b64decode(found["policy"]))["conditions"]
    assert ["content-length-range", 0, 1024**3] in conditions
    assert ["starts-with", "$key", found["upload_dir"]] in conditions
    assert {"bucket": "dashscope-file-mgr"} in conditions


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"model": "fun-asr"}, "InvalidParameter"),
        ({"action": "putPolicy", "model": "fun-asr"}, "InvalidParameter"),
        ({"action": "getPolicy"}, "BadRequest.EmptyModel"),
    ],
    ids=str,
)
async def test_invalid_policy_requests_are_rejected(
    ask: SimulatorClient, params: dict[str, str], code: str
) -> None:
    assert (await ask.get(POLICY, params=params)).json()["code"] == code
    answer = await ask.get(POLICY, params=params, key="sk-nobody")
    assert (answer.status_code, answer.json()["code"]) == (401, "InvalidApiKey")


async def test_an_upload_is_transcribed_by_sync_calls_and_tasks(ask: SimulatorClient) -> None:
    place = await uploaded(ask)
    answer = await ask.native(qwen3(place), headers=RESOLVE)
    assert answer.json()["usage"]["seconds"] == 1
    model = "qwen3-asr-flash-filetrans"
    ended = await ask.ended(filetrans(await uploaded(ask, model)), headers=RESOLVE)
    assert ended["output"]["task_status"] == "SUCCEEDED"
    ended = await ask.ended(transcription(await uploaded(ask, "fun-asr")), headers=RESOLVE)
    assert ended["output"]["task_status"] == "SUCCEEDED"


async def test_an_upload_belongs_to_its_key_and_model(ask: SimulatorClient) -> None:
    place = await uploaded(ask, key="sk-one")
    answer = await ask.native(qwen3(place), headers=RESOLVE, key="sk-two")
    assert answer.json()["code"] == "InvalidFile.DownloadFailed"
    ended = await ask.ended(filetrans(place), headers=RESOLVE)
    assert ended["output"]["code"] == "FILE_403_FORBIDDEN"
    assert (await ask.native(qwen3(place))).json()["code"] == "InvalidParameter.DataInspection"


async def test_an_upload_expires_after_two_days(ask: SimulatorClient) -> None:
    model = "qwen3-asr-flash-filetrans"
    place = await uploaded(ask, model)
    ask.simulator.clock.advance(47 * HOUR)
    assert (await ask.ended(filetrans(place), headers=RESOLVE))["usage"]["seconds"] == 1
    ask.simulator.clock.advance(2 * HOUR)
    ended = await ask.ended(filetrans(place), headers=RESOLVE)
    assert ended["output"]["code"] == "FILE_404_NOT_FOUND"


REJECTED: dict[str, tuple[dict[str, str | None], int, str]] = {
    "somebody else's store": ({"OSSAccessKeyId": "LTAIother"}, 403, "InvalidAccessKeyId"),
    "no signature": ({"Signature": None}, 403, "SignatureDoesNotMatch"),
    "a policy of one's own": ({"policy": "e30="}, 403, "SignatureDoesNotMatch"),
    "no policy": ({"policy": None}, 403, "SignatureDoesNotMatch"),
    "another folder": ({"key": "dashscope-instant/a.wav"}, 403, "AccessDenied"),
    "no key": ({"key": None}, 403, "AccessDenied"),
    "for all to read": ({"x-oss-object-acl": "public-read"}, 403, "AccessDenied"),
    "to overwrite": ({"x-oss-forbid-overwrite": None}, 403, "AccessDenied"),
}


@pytest.mark.parametrize(("changed", "status", "code"), REJECTED.values(), ids=REJECTED)
async def test_a_form_must_match_its_policy(
    ask: SimulatorClient, changed: dict[str, str | None], status: int, code: str
) -> None:
    answer = await ask.upload(await ask.policy("qwen3-asr-flash"), AUDIO, **changed)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/xml"
    assert f"<Code>{code}</Code>" in answer.text


async def test_a_policy_expires_after_five_minutes(ask: SimulatorClient) -> None:
    found = await ask.policy("qwen3-asr-flash")
    ask.simulator.clock.advance(299)
    assert (await ask.upload(found, AUDIO)).status_code == 200
    ask.simulator.clock.advance(2)
    answer = await ask.upload(found, AUDIO)
    assert answer.status_code == 403
    assert "<Message>Invalid according to Policy: Policy expired.</Message>" in answer.text


async def test_the_usual_answer_is_empty(ask: SimulatorClient) -> None:
    answer = await ask.upload(
        await ask.policy("qwen3-asr-flash"), AUDIO, success_action_status=None
    )
    assert (answer.status_code, answer.content) == (204, b"")


async def test_nothing_is_overwritten(ask: SimulatorClient) -> None:
    found = await ask.policy("qwen3-asr-flash")
    assert (await ask.upload(found, AUDIO)).status_code == 200
    assert (await ask.upload(found, AUDIO)).status_code == 409


async def test_the_store_wants_the_file_last_and_no_key(ask: SimulatorClient) -> None:
    found = await ask.policy("qwen3-asr-flash")
    fields = [(name, (None, value)) for name, value in form_of(found).items()]
    first: Any = [("file", ("a.wav", AUDIO)), *fields]
    answer = await ask.client.post(found["upload_host"], files=first)
    assert (answer.status_code, "MalformedPOSTRequest" in answer.text) == (400, True)
    bearer = {"authorization": f"Bearer {ask.simulator.key}"}
    answer = await ask.client.post(
        found["upload_host"], data=form_of(found), files={"file": AUDIO}, headers=bearer
    )
    assert (answer.status_code, "InvalidArgument" in answer.text) == (400, True)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    for content in (b"", b"--x\r\nnonsense"):
        answer = await ask.client.post(found["upload_host"], content=content, headers=broken)
        assert answer.status_code == 400
    assert (await ask.upload(found, AUDIO)).status_code == 200
