"""A paid answer of the provider with values that no column can hold still brings its text.

Covers: app.speech.storable_answer, app.speech.engines.dashscope.sentence_times
"""

import json
from pathlib import Path
from typing import Any

import pytest

from app.billing.tables import ledger_line
from app.jobs.tables import upstream_call
from tests.integration.api.test_dashscope import proxying
from tests.support.gateway import speech
from tests.support.stub_server import answers, qwen3_answer

pytestmark = pytest.mark.anyio
DEEP = json.loads("[" * 900 + "]" * 900)
USAGES: list[Any] = [
    {"seconds": 1e300},
    {"seconds": 10**18},
    {"seconds": 10**30},
    {"seconds": float("nan")},
    {"seconds": float("inf"), "more": float("-inf")},
    {"seconds": -5},
    {"seconds": "2"},
    {"seconds": [2]},
    {"seconds": 2, "input_tokens": 10**30, "output_tokens": 1e300},
    {"seconds": 2, "input_tokens_details": {"a": 10**30, "b": float("nan")}},
    {"seconds": 2, "deep": DEEP},
    {"seconds": 2, "text": "\x00\ud800"},
    {"seconds": 2, "long": "x" * 1_000_000},
    {"seconds": 2, **{f"n{at}": at for at in range(20_000)}},
    {"seconds": 2, "\x00\udfff": 1},
    [],
    None,
    "2",
]
TEXTS = ["a\x00b", "half \ud83d", "\udfff", "\x00"]
FIELDS: list[dict[str, Any]] = [
    {"request_id": "r" * 100_000},
    {"request_id": "r\x00"},
    {"request_id": "\ud800"},
    {"request_id": {"a": 1}},
    {"request_id": 10**30},
    {"deep": DEEP},
]
LABELS = ["zh\x00", "\ud800", "x" * 5_000, 5, None, {"a": DEEP}]


def odd_answers() -> list[bytes]:
    """Return answers that are well-formed JSON, each odd in one place."""
    bodies = [{**qwen3_answer("heard"), "usage": usage} for usage in USAGES]
    bodies += [qwen3_answer(text) for text in TEXTS]
    bodies += [{**qwen3_answer("heard"), **one} for one in FIELDS]
    for label in LABELS:
        body = qwen3_answer("heard")
        annotation = {"language": label, "emotion": label}
        body["output"]["choices"][0]["message"]["annotations"] = [annotation]
        bodies.append(body)
    return [json.dumps(body).encode() for body in bodies]


async def test_no_odd_answer_ends_a_paid_job(database_url: str, tmp_path: Path) -> None:
    """ATTACKS M7: each call is answered once and settled, and the job has its text."""
    bodies = odd_answers()
    async with proxying(database_url, tmp_path, *map(answers, bodies)) as (gateway, there):
        for body in bodies:
            response = await gateway.send(speech(2), raw="true")
            assert response.status_code == 200, (body[:300], response.text)
            assert response.json()["status"] == "completed", body[:300]
            assert "\x00" not in response.text
            read = await gateway.get(f"/v1/transcriptions/{response.json()['id']}")
            assert read.status_code == 200, body[:300]
        calls = await gateway.rows(upstream_call)
        lines = await gateway.rows(ledger_line, kind="settle")
    assert len(there.asked) == len(calls) == len(lines) == len(bodies)
    assert {call["state"] for call in calls} == {"answered"}
    assert max(len(call["request_id"] or "") for call in calls) == 200
    assert max(len(json.dumps(call["usage"])) for call in calls) < 20_000
    assert {line["used_ms"] for line in lines} == {2000}
    # A usage that cannot be true counts as none: the length of the audio is charged.
    estimated = [line["estimated"] for line in lines]
    assert estimated[:8] == [True] * 8
    assert estimated[8:15] == [False] * 7


async def test_a_stream_with_odd_text_is_completed(database_url: str, tmp_path: Path) -> None:
    """ATTACKS M7: the same by the event stream, whose text is published piece by piece."""
    pieces = [qwen3_answer(text) for text in ("a", "b\x00", "c\ud83d", "")]
    for piece in pieces[:-1]:
        piece["output"]["choices"][0]["finish_reason"] = "null"
    frames = "".join(
        f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{json.dumps(piece)}\n\n"
        for number, piece in enumerate(pieces, 1)
    )
    reply = answers(frames.encode(), **{"content-type": "text/event-stream;charset=UTF-8"})
    async with proxying(database_url, tmp_path, reply) as (gateway, there):
        response = await gateway.send(speech(2), mode="stream")
        calls = await gateway.rows(upstream_call)
    assert [call["state"] for call in calls] == ["answered"], response.text
    assert "event: completed" in response.text
    assert len(there.asked) == 1


def sentences_answer(*spans: tuple[Any, Any]) -> dict[str, Any]:
    """Return an answer in the input-audio form, with one sentence for each pair of times."""
    sentences = [
        {
            "sentence_id": number,
            "begin_time": begin,
            "end_time": end,
            "text": f"word{number} ",
            "words": [{"begin_time": begin, "end_time": end, "text": f"word{number} "}],
        }
        for number, (begin, end) in enumerate(spans)
    ]
    text = "".join(one["text"] for one in sentences)
    return {
        "output": {"text": text, "sentences": sentences},
        "usage": {"duration": 2},
        "request_id": "r",
    }


@pytest.mark.parametrize(
    ("spans", "times"),
    [
        ([(0, 500), (900, 600), (1000, 2000)], [(0, 0.5), (0.9, 1.0), (1.0, 2.0)]),
        ([(0, 500), (None, None), (1000, 2000)], [(0, 0.5), (0.5, 1.0), (1.0, 2.0)]),
        ([(-40, 500), (500, float("nan"))], [(0, 0.5), (0.5, 0.5)]),
        ([(0, 500), (10**30, 10**30)], [(0, 0.5), (0.5, 0.5)]),
        ([(0, 500), ("1", True)], [(0, 0.5), (0.5, 0.5)]),
        ([(0, 500), (500, 900_000)], [(0, 0.5), (0.5, 2.0)]),
    ],
)
async def test_a_sentence_with_impossible_times_is_kept(
    database_url: str,
    tmp_path: Path,
    spans: list[tuple[Any, Any]],
    times: list[tuple[float, float]],
) -> None:
    """CASES 37: its times are corrected, and a warning says so."""
    body = json.dumps(sentences_answer(*spans)).encode()
    async with proxying(database_url, tmp_path, answers(body)) as (gateway, _):
        response = await gateway.send(
            speech(2), model="qwen-audio-3.0-asr-flash", timestamp_granularities="word"
        )
    told = response.json()
    assert [(one["start"], one["end"]) for one in told["segments"]] == times, told
    assert [one["text"] for one in told["segments"]] == [f"word{n}" for n in range(len(spans))]
    assert all(len(one["words"]) == 1 for one in told["segments"])
    assert "engine_warning" in [one["code"] for one in told["warnings"]]
