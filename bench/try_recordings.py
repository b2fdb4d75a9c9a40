"""Send every labelled file of a folder to a running gateway and check the answers.

python -m bench.try_recordings FOLDER URL [--key KEY] [--model MODEL]

FOLDER/manifest.json names the files and the expected result of each: `ok`, `ok-empty`,
`ok-partial`, `error:<why>`. A file that tries to make a decoder read another file is pointed at
audio that exists, whose words must not be in the answer.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import jiwer

CODES = {
    "empty": "empty_audio",
    "undecodable": "undecodable",
    "no_audio": "no_audio_stream",
    "too_long": "audio_too_long",
}
BY_CHARACTER = ("zh", "ja", "yue", "th")  # written without spaces between words
WAIT_SECONDS = 1800
SECURITY = "security"
PROBLEM = "application/problem+json"
MOST_REWRITTEN_BYTES = 1 << 20
_ABSOLUTE = re.compile(rb"(?:file://)?(/[^\s'\"<>]+\.\w+)")
_NOT_A_WORD = re.compile(r"[^\w\s]|_")


@dataclass
class Row:
    """The result of one file. `complaint` is empty if the result is the expected one."""

    entry: Mapping[str, Any]
    status: int
    complaint: str
    words: str
    rate: float | None


def main() -> int:
    asked = arguments()
    entries = json.loads((asked.folder / "manifest.json").read_text())["files"]
    headers = {"Authorization": f"Bearer {asked.key}"} if asked.key else {}
    with httpx.Client(base_url=asked.url, headers=headers, timeout=WAIT_SECONDS + 60) as client:
        rows = list(tried(client, asked.folder, entries, asked.model))
    return summed_up(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("--key")
    parser.add_argument("--model")
    return parser.parse_args()


def tried(
    client: httpx.Client, folder: Path, entries: list[Mapping[str, Any]], model: str | None
) -> Iterator[Row]:
    spoken = next(e for e in entries if e["expect"] == "ok" and e.get("reference"))
    for entry in entries:
        content = (folder / entry["file"]).read_bytes()
        if entry["category"] == SECURITY:
            with Canary(folder / spoken["file"], content) as canary:
                row = judged(entry, posted(client, entry, canary.content, model))
                row.complaint = row.complaint or leaked(row, spoken["reference"])
        else:
            row = judged(entry, posted(client, entry, content, model))
        print(line_of(row), flush=True)
        yield row


class Canary:
    """Audio at the path to which a hostile file points, or at a path that is written into it."""

    def __init__(self, recording: Path, content: bytes) -> None:
        self.content = content
        self._recording = recording
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        if len(self.content) <= MOST_REWRITTEN_BYTES:
            self.content = _ABSOLUTE.sub(self._aimed, self.content)
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._made:
            shutil.rmtree(path)

    def _aimed(self, found: re.Match[bytes]) -> bytes:
        """Return the path if it names a file of this machine, else a path of the canary."""
        if found[1].startswith(b"//") or Path(found[1].decode("utf-8", "replace")).is_file():
            return found[0]
        folder = Path(tempfile.mkdtemp(prefix="gateway-canary-"))
        self._made.append(folder)
        target = folder / self._recording.name
        shutil.copyfile(self._recording, target)
        folder.chmod(0o755)
        return found[0].replace(found[1], str(target).encode())


def posted(
    client: httpx.Client, entry: Mapping[str, Any], content: bytes, model: str | None
) -> httpx.Response:
    form = {"wait": str(WAIT_SECONDS)} | ({"model": model} if model else {})
    files = {"file": (entry["file"], content)}
    return client.post("/v1/transcriptions", files=files, data=form)


def judged(entry: Mapping[str, Any], answer: httpx.Response) -> Row:
    body = answer.json()
    text = body.get("text") or ""
    if answer.is_success:
        rate = rate_of(entry, text)
        return Row(entry, answer.status_code, complaint_of(entry, body), text, rate)
    words = f"{body.get('code')}: {body.get('detail')}"
    return Row(entry, answer.status_code, refusal_of(entry, answer), words, None)


def complaint_of(entry: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """Return the complaint about an answer with status 2xx; empty for a correct one."""
    text, expect = body.get("text"), entry["expect"]
    if body["status"] != "completed" or text is None:
        return f"is {body['status']}"
    fits = {
        "ok": bool(text.strip()) or not entry.get("reference"),
        "ok-empty": text == "",
        "ok-partial": bool(body["warnings"] or text),
    }
    return "" if fits.get(expect) else f"expected {expect}"


def refusal_of(entry: Mapping[str, Any], answer: httpx.Response) -> str:
    """Return the complaint about an error; empty for a correct one."""
    kind, _, reason = entry["expect"].partition(":")
    if answer.is_server_error or kind != "error":
        return f"expected {entry['expect']}"
    if not answer.headers["content-type"].startswith(PROBLEM):
        return f"is {answer.headers['content-type']}"
    code = answer.json().get("code")
    return "" if code == CODES[reason] else f"expected {CODES[reason]}, not {code}"


def leaked(row: Row, reference: str) -> str:
    """Tell whether three or more consecutive words of the canary are in the answer."""
    heard, said = f" {plain(row.words)} ", plain(reference).split()
    runs = (" ".join(said[start : start + 3]) for start in range(len(said) - 2))
    return next((f"the canary was read: {run}" for run in runs if f" {run} " in heard), "")


def rate_of(entry: Mapping[str, Any], text: str) -> float | None:
    """Return the word error rate, or the character error rate for languages without spaces."""
    reference = entry.get("reference")
    if not reference:
        return None
    said, heard = plain(reference), plain(text)
    if entry["language"] in BY_CHARACTER:
        return float(jiwer.cer("".join(said.split()), "".join(heard.split())))
    return float(jiwer.wer(said, heard))


def plain(text: str) -> str:
    """Return the text in lower case, without punctuation, with one space between words."""
    folded = unicodedata.normalize("NFKC", text).lower().replace("mr.", "mister")
    return " ".join(_NOT_A_WORD.sub(" ", folded).split())


def line_of(row: Row) -> str:
    rate = "" if row.rate is None else f"{row.rate:6.1%}"
    name, expect = row.entry["file"], row.entry["expect"]
    mark = f"WRONG ({row.complaint})" if row.complaint else "as expected"
    return f"{name:32} {expect:18} {row.status} {rate:7} {mark:12} {row.words[:60]}"


def summed_up(rows: list[Row]) -> int:
    wrong = [row for row in rows if row.complaint]
    statuses = dict(sorted(Counter(row.status for row in rows).items()))
    print(f"\n{len(rows)} recordings, answers {statuses}, not as expected {len(wrong)}")
    for language in sorted({row.entry["language"] or "" for row in rows if row.rate is not None}):
        rates = [row.rate for row in rows if row.entry["language"] == language]
        known = [rate for rate in rates if rate is not None]
        kind = "CER" if language in BY_CHARACTER else "WER"
        print(f"  {language}: {kind} {sum(known) / len(known):.1%} over {len(known)}")
    for row in wrong:
        print(f"  {row.entry['file']}: {row.complaint}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
