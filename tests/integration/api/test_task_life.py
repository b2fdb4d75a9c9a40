"""Special cases of tasks: failed files, URLs that the gateway fetches, cancellation.

Covers: app.jobs.filetrans.result
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.jobs.tables import upstream_call
from tests.simulator import Delays
from tests.simulator.limits import Limits
from tests.support.gateway import Gateway, code_of, running, settings_for
from tests.support.simulated_gateway import fast_catalogue
from tests.support.stub_server import Reply, answers, upstream
from tests.support.task_gateway import QUICK, THREE_SECONDS, task_gateway
from tests.support.web_server import answer, serving

pytestmark = pytest.mark.anyio
URL = "https://far.example/a.wav"
TAKEN = {"output": {"task_status": "PENDING", "task_id": "t-1"}, "request_id": "r-1"}


def told(status: str, *results: dict[str, Any], duration: int = 2) -> Reply:
    output = {"task_id": "t-1", "task_status": status, "results": list(results)}
    return answers({"output": output, "usage": {"duration": duration}, "request_id": "r-2"})


def result(text: str) -> Reply:
    sentence = {"begin_time": 0, "end_time": 1_500, "text": text, "sentence_id": 1}
    transcript = {"channel_id": 0, "text": text, "sentences": [sentence]}
    properties = {"original_duration_in_milliseconds": 2_000}
    return answers({"file_url": URL, "properties": properties, "transcripts": [transcript]})


async def asked(gateway: Gateway, **options: Any) -> Any:
    body = {"model": "fun-asr", "url": URL, "include": ["raw"], **options}
    return await gateway.client.post("/v1/transcriptions", json=body)


async def test_a_partly_failed_task_names_the_failed_file(
    database_url: str, tmp_path: Path
) -> None:
    replies = [answers(TAKEN)]
    async with upstream(*replies) as there:
        well = {
            "transcription_url": f"{there.url}/a.json?sig=canary",
            "subtask_status": "SUCCEEDED",
        }
        ill = {"code": "FILE_404_NOT_FOUND", "message": "x", "subtask_status": "FAILED"}
        there.replies += [told("SUCCEEDED", well, ill), result("heard this")]
        settings = settings_for(
            database_url,
            tmp_path / "data",
            speech={"default_model": "", "catalogue": str(fast_catalogue(tmp_path))},
            dashscope={"api_key": "sk-x", "base_url": there.url},
            jobs=QUICK,
        )
        async with running(settings, None) as gateway:
            response = await asked(gateway)
            rows = await gateway.rows(upstream_call)
    body = response.json()
    assert (body["status"], body["text"], body["coverage"]) == ("completed", "heard this", 0.5), (
        body
    )
    (warning,) = body["warnings"]
    assert warning["code"] == "partly_failed"
    assert warning["detail"] == "File 2 of 2 was not transcribed: FILE_404_NOT_FOUND."
    assert body["usage"]["seconds"] == 2
    (raw,) = body["raw"]
    assert raw["results"][0]["properties"]["original_duration_in_milliseconds"] == 2_000
    assert [(row["task_id"], row["request_id"]) for row in rows] == [("t-1", "r-1")]
    (fetched,) = [one for one in there.asked if one.path.startswith("/a.json")]
    assert "authorization" not in fetched.headers
    assert all("authorization" in one.headers for one in there.asked if one is not fetched)


@pytest.mark.parametrize("host", ["http://198.51.100.7", "https://oss.example.com", "file:///etc"])
async def test_a_result_is_fetched_only_from_the_providers_storage(
    tmp_path: Path, host: str
) -> None:
    async with upstream(answers(TAKEN)) as there:
        well = {"transcription_url": f"{host}/a.json", "subtask_status": "SUCCEEDED"}
        there.replies.append(told("SUCCEEDED", well))
        settings = settings_for(
            f"sqlite:///{tmp_path / 'g.db'}",
            tmp_path / "data",
            speech={"default_model": "", "catalogue": str(fast_catalogue(tmp_path))},
            dashscope={"api_key": "sk-x", "base_url": there.url},
            jobs=QUICK,
        )
        async with running(settings, None) as gateway:
            sent = await asked(gateway, wait=0)
            async with asyncio.timeout(20):
                while len(there.asked) < 4:  # it is asked for again and again
                    await asyncio.sleep(0.01)
            body = (await gateway.client.get(sent.headers["location"])).json()
    assert body["status"] == "processing"
    assert all(one.path.startswith("/api/") for one in there.asked)


async def test_a_url_in_a_private_network_is_fetched_and_uploaded(
    database_url: str, tmp_path: Path
) -> None:
    async with serving() as source:
        source.pages["/a.wav"] = answer("200 OK", THREE_SECONDS)
        fetch = {
            "allow_http": True,
            "allow_addresses": ("127.0.0.0/8",),
            "ports": (source.port, 443),
        }
        async with task_gateway(tmp_path, database=database_url, fetch=fetch) as here:
            body = (await here.link(source.url("/a.wav"))).json()
            assert (body["status"], body["text"]) == ("completed", "1 2 3"), body
            assert (body["plan"]["audio_source"], body["audio"]["format"]) == (
                "provider_upload",
                "wav",
            )
            assert here.submits[0]["input"]["file_url"].startswith("oss://")
            refused = await here.link("http://10.0.0.7/a.wav")
            assert code_of(refused) == (422, "url_not_allowed")


@pytest.mark.parametrize("begun", [False, True])
async def test_a_pending_task_of_a_cancelled_job_is_cancelled(
    tmp_path: Path, *, begun: bool
) -> None:
    delays = Delays(pending=0 if begun else 600, running=600)
    async with task_gateway(tmp_path, delays=delays) as here:
        sent = await here.send(wait="0")
        job_id = sent.json()["id"]
        async with asyncio.timeout(20):
            while not (
                here.simulator.tasks and (begun is (here.simulator.tasks[0].status == "RUNNING"))
            ):
                await asyncio.sleep(0.01)
            while not (await here.gateway.get(f"/v1/transcriptions/{job_id}")).json()["task_id"]:
                await asyncio.sleep(0.01)
        await here.gateway.client.delete(f"/v1/transcriptions/{job_id}")
        assert here.simulator.tasks[0].status == ("RUNNING" if begun else "CANCELED")
        assert await here.calls() == [("in_doubt", "maybe") if begun else ("failed", "no")]
        # Again, and of a job that has no task, it does nothing.
        await here.gateway.services.worker._transcriber.cancel_upstream(job_id)
        await here.gateway.services.worker._transcriber.cancel_upstream("tr_" + "0" * 32)


async def test_all_polls_share_one_rate_limit(tmp_path: Path) -> None:
    simulator = {"limits": Limits(task_calls=True)}
    async with task_gateway(tmp_path, simulator=simulator, delays=Delays(0.3, 0.5)) as here:
        sent = [await here.send(wait="0") for _ in range(12)]
        for one in sent:
            assert (await here.gateway.ended(one.json()["id"]))["status"] == "completed"
        assert [call.status for call in here.simulator.calls if call.status == 429] == []
