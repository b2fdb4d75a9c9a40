"""`asr-gateway transcribe`: recordings in, transcripts out, by a gateway's API."""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from app.audio.ffmpeg import Decoders
from app.audio.inspection.inspect import inspect
from app.cli.connect import check_address, connected, is_own
from app.cli.errors import FAILED, UsageError
from app.cli.signals import Interrupts, run_async
from app.cli.transcribe.batch import Batch, Body, Outcome
from app.cli.transcribe.interrupted import stop_waiting
from app.cli.transcribe.output import OutputFolder
from app.cli.transcribe.progress import ProgressTracker
from app.cli.transcribe.progress_bar import ProgressDisplay
from app.cli.transcribe.sources import Source, sources_of
from app.errors import GatewayError
from app.net.api_client import GatewayApi
from app.settings import Settings
from app.speech.subtitles.formats import Format

DEFAULT_FOLDER = Path("output/ai-audio-asr/transcripts")
TEXT, JSON = "text", "json"
FORMS = get_args(Format)


@dataclass(frozen=True, slots=True)
class TranscribeRequest:
    """The recordings to transcribe, their options and the output. `wait` is in seconds."""

    recordings: Sequence[Source]
    options: dict[str, Any]
    form: str
    results: OutputFolder
    submit_only: bool
    wait: float | None
    prints_response: bool

    @property
    def is_single(self) -> bool:
        return len(self.recordings) == 1


def transcribe(
    recordings: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, links.", metavar="FILE_OR_URL...")
    ] = None,
    audio: Annotated[
        list[str] | None, typer.Option(metavar="PATH_OR_URL", help="The same; repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="One of `asr-gateway models list`.")] = None,
    language_hints: Annotated[
        list[str] | None, typer.Option(help="Languages spoken: repeated, or with commas.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Names and terms that will occur.")] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="|".join(FORMS), help="Form of the words.")
    ] = TEXT,
    submit_only: Annotated[
        bool, typer.Option("--async", help="Submit, print the ids, and end.")
    ] = False,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Longest wait in seconds (default: no limit).")
    ] = None,
    print_response: Annotated[
        bool, typer.Option("--print-response", help="Print the API's JSON, a line for each.")
    ] = False,
    output_dir: Annotated[
        Path, typer.Option(envvar="OUTPUT_DIR", help="Where results are put.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Transcribe files, folders or URLs.

    Writes text and JSON to --output-dir and prints the text of a single file.

    Uses the gateway at ASR_GATEWAY_URL (with ASR_GATEWAY_KEY), or else starts one for the duration
    of the command. Exit code 0: all succeeded, 1: some failed, 2: usage error.
    """
    if form not in FORMS:
        raise UsageError(f"There is no format {form!r}; the formats are {', '.join(FORMS)}.")
    check_address()
    wish = TranscribeRequest(
        sources_of([*(recordings or []), *(audio or [])]),
        _options(model, language_hints, context, is_async=submit_only),
        form,
        OutputFolder(output_dir),
        submit_only,
        wait,
        print_response,
    )
    if not wish.recordings:
        raise UsageError("Name at least one recording: a file, a folder or a link.")
    if not submit_only:
        wish.results.prepare()
    raise typer.Exit(run_async(lambda interrupts: _transcribe(wish, interrupts)))


def _options(
    model: str | None, hints: Sequence[str] | None, context: str | None, *, is_async: bool
) -> dict[str, Any]:
    # Without `async` nothing waits on the connection either: we ask how far it is.
    how = {"mode": "async"} if is_async else {"wait": 0}
    wished = {"model": model, "language_hints": ",".join(hints or ()), "context": context}
    return {**how, **{name: value for name, value in wished.items() if value}}


async def _transcribe(wish: TranscribeRequest, interrupts: Interrupts) -> int:
    screen = ProgressDisplay(ProgressTracker(len(wish.recordings)))
    say = None if "model" in wish.options else screen.line
    async with connected(say) as api:
        await api.get("/v1/models")  # one sentence about a wrong key, not one for each recording
        with screen:
            batch = _batch(api, wish, screen)
            measuring = asyncio.create_task(_measure(wish.recordings, screen))
            try:
                return await _run(batch, wish, screen, interrupts)
            finally:
                measuring.cancel()
                await asyncio.gather(measuring, return_exceptions=True)


async def _run(
    batch: Batch, wish: TranscribeRequest, screen: ProgressDisplay, interrupts: Interrupts
) -> int:
    """Follow the batch to its end, or until a signal or --wait says otherwise."""
    work = asyncio.create_task(_report(batch, wish, screen))
    interrupted = asyncio.Event()
    interrupts.listener = interrupted.set
    signal = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait({work, signal}, timeout=wish.wait, return_when="FIRST_COMPLETED")
        if work.done():
            return work.result()
        batch.begin_no_more()
        await stop_waiting(batch, screen, interrupts, is_own=is_own())
        return interrupts.exit_code if interrupts.came else FAILED
    finally:
        interrupts.listener = None
        for task in (work, signal):
            task.cancel()
        await asyncio.gather(work, signal, return_exceptions=True)


def _batch(api: GatewayApi, wish: TranscribeRequest, screen: ProgressDisplay) -> Batch:
    keeping = asyncio.Lock()

    async def keep(recording: Source, body: Body) -> tuple[Path | None, str]:
        if wish.submit_only:
            return None, ""
        forms = {TEXT: body["text"] or ""}
        if wish.form not in {TEXT, JSON}:
            forms[wish.form] = await api.transcript(body["id"], wish.form)
        async with keeping:
            place = await asyncio.to_thread(wish.results.keep, recording.name, body, forms)
        if wish.form == JSON and wish.is_single:
            forms[JSON] = await api.transcript(body["id"], JSON)
        return place, forms.get(wish.form, "")

    def told(index: int, body: Body | None) -> None:
        if body is None:
            screen.tally.end(index)
        else:
            seconds = (body["audio"] or {}).get("seconds")
            if seconds is not None:
                screen.tally.learn(index, seconds)
            screen.tally.tell(index, body["progress"])
        screen.refresh()

    return Batch(api, wish.recordings, wish.options, told, keep, wish.submit_only)


async def _report(batch: Batch, wish: TranscribeRequest, screen: ProgressDisplay) -> int:
    """Tell of each recording in its turn; return the exit code."""
    failed, warned = 0, set[str]()
    async with aclosing(batch.outcomes()) as outcomes:
        async for outcome in outcomes:
            failed += bool(outcome.error)
            _tell(outcome, wish, screen)
            for warning in (outcome.body or {}).get("warnings", ()):
                if warning["detail"] not in warned:
                    warned.add(warning["detail"])
                    screen.line(f"{outcome.recording.shown}: {warning['detail']}")
    count = len(wish.recordings)
    if count > 1:
        done = "submitted" if wish.submit_only else f"transcribed, in {wish.results.folder}"
        screen.line(f"{count - failed} of {count} {done}; {failed} failed.")
    if wish.submit_only and is_own():
        screen.line("What has not ended by now goes on when the gateway runs: asr-gateway serve")
    return FAILED if failed else 0


def _tell(outcome: Outcome, wish: TranscribeRequest, screen: ProgressDisplay) -> None:
    shown, body = outcome.recording.shown, outcome.body
    if wish.prints_response and body is not None:
        _print(json.dumps(body, ensure_ascii=False, indent=2 if wish.is_single else None))
    if outcome.error or body is None:
        screen.line(f"{shown}: {outcome.error}")
    elif wish.submit_only:
        if not wish.prints_response:
            _print(body["id"] if wish.is_single else f"{body['id']}\t{shown}")
        screen.step(f"{shown}: submitted.")
    else:
        place, words = outcome.kept
        if wish.is_single and not wish.prints_response:
            _print(words.rstrip("\n"))
        seconds = (body["audio"] or {}).get("seconds") or 0
        screen.step(f"{shown}: {seconds:g} s of audio, {place}.txt")


def _print(words: str) -> None:
    """Print a result; a terminal that cannot show a letter gets a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    print(words.encode(encoding, "replace").decode(encoding), flush=True)


async def _measure(recordings: Sequence[Source], screen: ProgressDisplay) -> None:
    """Learn the lengths of the files beforehand, where a bar is to show them."""
    if not screen.is_live:
        return
    settings = Settings().audio
    decoders = Decoders(settings)
    for index, recording in enumerate(recordings):
        if isinstance(recording.source, Path):
            try:
                found = await inspect(recording.source, decoders=decoders, settings=settings)
            except (GatewayError, OSError):
                continue  # the gateway says what is wrong with it
            if found.seconds is not None:
                screen.tally.learn(index, found.seconds)
                screen.refresh()
