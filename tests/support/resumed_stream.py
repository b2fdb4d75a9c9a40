"""The events of one job that a client receives over SSE, over any number of broken connections.

The reader is independent of the gateway's code, so that a misreading in one of them is found.
"""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx

END = frozenset({"completed", "failed", "cancelled"})
TAKES_BACK = frozenset({"reset"})  # follows a final event if the job was retried
WIRE_ONLY = frozenset({"closing"})  # sent to every client, and not stored


@dataclass(frozen=True)
class SseEvent:
    """One event as received."""

    id: str
    name: str
    data: dict[str, Any]


@dataclass
class ResumedStream:
    """The events of a job in the order of arrival. `last_id` is the position to resume from."""

    job_id: str = ""
    events: list[SseEvent] = field(default_factory=list)
    last_id: str = ""

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1].name in END

    async def hear(self, answer: httpx.Response) -> None:
        """Receive events until the connection ends."""
        async for event in events_in(answer):
            self.last_id = event.id or self.last_id
            if event.name not in WIRE_ONLY:
                self.events.append(event)

    async def resume(self, client: httpx.AsyncClient) -> None:
        """Resume from the end of the last connection."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        path = f"/v1/transcriptions/{self.job_id}/events"
        async with client.stream("GET", path, headers=headers) as answer:
            if answer.status_code == httpx.codes.NO_CONTENT:
                return  # everything was heard: an EventSource is told to stay away
            if answer.status_code != httpx.codes.OK:
                raise AssertionError(
                    f"{path} answers {answer.status_code}: {await answer.aread()!r}"
                )
            await self.hear(answer)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The numbered events, without deltas."""
        return [(event.id, event.name) for event in self.events if event.name != "delta"]

    @property
    def standing(self) -> list[tuple[str, str]]:
        """The rows without final events that a retry removed: each was followed by a `reset`.

        A client that was connected at the time has received such an event; a later one does not.
        """
        heard = [*self.rows, ("", "")]
        return [
            row
            for row, (_, after) in pairwise(heard)
            if not (row[1] in END and after in TAKES_BACK)
        ]

    @property
    def text(self) -> str:
        """The text of the client: all segments, and the deltas after the last one."""
        return " ".join([*_segments(self.events), _pending(self.events)]).strip()

    def broken_deltas(self) -> Iterator[str]:
        """Yield a sentence for each segment whose text differs from its deltas."""
        pending = ""
        for event in self.events:
            if event.name == "delta":
                pending += event.data["text"]
            elif event.name in {"segment", "reset"}:
                if event.name == "segment" and pending.strip() != event.data["text"].strip():
                    yield f"told {pending!r} and then the segment {event.data['text']!r}"
                pending = ""


def _segments(events: list[SseEvent]) -> list[str]:
    return [event.data["text"] for event in events if event.name == "segment"]


def _pending(events: list[SseEvent]) -> str:
    told: list[str] = []
    for event in events:
        if event.name == "delta":
            told.append(event.data["text"])
        elif event.name in {"segment", "reset"}:
            told.clear()
    return "".join(told)


async def events_in(answer: httpx.Response) -> AsyncIterator[SseEvent]:
    """Read events. An event that the connection cut is ignored."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            data = json.loads(fields["data"])
            yield SseEvent(fields.get("id", ""), fields.get("event", "message"), data)
        fields = {}
