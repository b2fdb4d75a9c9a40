"""Write the answers in `docs/api.md`: its text and commands stay, the answers come from a run.

python -m tests.support.api_tour

Values that differ from run to run are replaced, and long values are cut, both with `…`. The first
transcription is complete; later answers show only new values. The number of deltas of a text
depends on timing: they are shown as one. `$ID` in a command is the last transcription.
"""

import asyncio
import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gateway_shell import Shell, gateway_shell

FILE = Path(__file__).parents[2] / "docs" / "api.md"
OPEN = ("queued", "processing")
SHOWN_HEADERS = ("location", "retry-after", "preference-applied", "content-type")
MOST_ITEMS = 3
MOST_CHARS = 240  # of a line of text
MOST_TEXT = 200  # of one string in JSON
_A_MATTER_OF_TIME = ("created_at", "started_at", "completed_at", "task_id", "progress")

_BLOCK = re.compile(r"```sh\n(.*?)```\n(?:\n```http\n.*?```\n)?", re.DOTALL)
_ID = re.compile(r"\b(tr|aud|key|call|req|file)_[0-9a-f]{32}\b")
_TRANSCRIPTION = re.compile(r"\btr_[0-9a-f]{32}\b")
_SAME: tuple[tuple[str, str], ...] = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-12-01T10:00:00.000Z"),
    (r"st_\d+_[\w-]{43}", "st_…"),
    (r"(id: [\d.]+)-[0-9a-f]{6}", r"\1-5e1f0a"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "…"),
    (r"\b[0-9a-f]{32,64}\b", "…"),
)
_DELTAS = re.compile(r'(?:event: delta\ndata: \{"text":".*"\}\nid: .*\n\n)+')
_DELTA = re.compile(r'event: delta\ndata: \{"text":"(.*)"\}\nid: (.*)\n\n')


async def rendered() -> str:
    """Run every command of the page and return the text of the file."""
    with tempfile.TemporaryDirectory() as folder:
        async with gateway_shell(Path(folder) / "tour") as shell:
            return await asyncio.to_thread(_BLOCK.sub, _Tour(shell).answered, FILE.read_text())


@dataclass
class _Tour:
    """The state of the tour: the members that were shown before, and the ids."""

    shell: Shell
    last: str = ""
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def answered(self, block: re.Match[str]) -> str:
        command = block[1]
        done = self.shell.run(f"ID={self.last}\n{command}", may_fail=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        head = self.shell.headers.read_text()
        if found := _TRANSCRIPTION.search(head + done.stdout):
            self.last = found[0]
        shown = self._same(f"{_head(head)}\n\n{self._body(done.stdout)}".rstrip())
        return f"```sh\n{command}```\n\n```http\n{shown}\n```\n"

    def _body(self, body: str) -> str:
        try:
            value = json.loads(body)
        except ValueError:
            return _short(_DELTAS.sub(_as_one, body.replace("\r\n", "\n")))
        return json.dumps(self._cut(value), indent=2, ensure_ascii=False)

    def _cut(self, value: Any) -> Any:
        match value:
            case {"plan": _, "id": _}:
                return self._news(value)
            case {"basis": _}:
                return dict.fromkeys(value, "…")
            case dict():
                return {key: self._cut(inner) for key, inner in value.items()}
            case list():
                shown = value if len(value) <= MOST_ITEMS else value[: MOST_ITEMS - 1]
                return [*map(self._cut, shown), *["…"][: len(value) - len(shown)]]
            case str() if len(value) > MOST_TEXT:
                return f"{value[:MOST_TEXT]}…"
        return value

    def _news(self, transcription: dict[str, Any]) -> dict[str, Any]:
        name, fresh = transcription["id"], not self.seen
        before = self.seen.get(name, next(iter(self.seen.values()), {}))
        self.seen[name] = before | transcription if name in self.seen else transcription
        news = {
            member: self._cut(_masked(member, value))
            for member, value in transcription.items()
            if fresh or member == "id" or _is_news(member, value, before)
        }
        return news if fresh else {**news, "…": "…"}

    def _same(self, text: str) -> str:
        text = _ID.sub(self._named, text)
        for pattern, instead in _SAME:
            text = re.sub(pattern, instead, text)
        for written, real in self.shell.replaced.items():
            text = text.replace(real, written)
        return text

    def _named(self, found: re.Match[str]) -> str:
        known = sum(one.startswith(f"{found[1]}_") for one in self.ids)
        return self.ids.setdefault(found[0], f"{found[1]}_…{known + 1}")


def _head(head: str) -> str:
    status, *lines = head.strip().splitlines()
    named = dict(line.split(": ", 1) for line in lines)
    return "\n".join([status, *(f"{one}: {named[one]}" for one in SHOWN_HEADERS if one in named)])


def _is_news(member: str, value: Any, before: dict[str, Any]) -> bool:
    is_known = member in before and value == before[member]
    return not is_known and member not in _A_MATTER_OF_TIME


def _masked(member: str, value: Any) -> Any:
    """Return a value without the progress of the transcription, which depends on timing."""
    if member == "status" and value in OPEN:
        return "queued"
    return "…" if member == "in_doubt" else value


def _short(body: str) -> str:
    lines = body.rstrip().split("\n")
    return "\n".join(one if len(one) <= MOST_CHARS else f"{one[:MOST_CHARS]}…" for one in lines)


def _as_one(deltas: re.Match[str]) -> str:
    told = _DELTA.findall(deltas[0])
    text = "".join(one for one, _ in told)
    return f'event: delta\ndata: {{"text":"{text}"}}\nid: {told[-1][1]}\n\n'


if __name__ == "__main__":
    FILE.write_text(asyncio.run(rendered()))
