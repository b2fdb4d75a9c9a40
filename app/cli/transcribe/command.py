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
from app.cli.connect import check_gateway_url, connect, is_own
from app.cli.errors import FAILED, UsageError
from app.cli.signals import Interrupts, run_async
from app.cli.transcribe.batch import Batch, Body, Outcome
from app.cli.transcribe.interrupted import stop_waiting
from app.cli.transcribe.output import OutputFolder
from app.cli.transcribe.progress import ProgressTracker
from app.cli.transcribe.progress_bar import ProgressDisplay
from app.cli.transcribe.sources import Recording, recordings_of
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

    recordings: Sequence[Recording]
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
        list[str] | None,
        typer.Argument(help="Files, folders or URLs.", metavar="FILE_OR_URL..."),
    ] = None,
    audio: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH_OR_URL", help="A further file, folder or URL; repeatable."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model that `asr-gateway models list` shows.")
    ] = None,
    language_hints: Annotated[
        list[str] | None,
        typer.Option(help="Spoken languages, e.g. en,zh; repeatable (default: detected)."),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Spoken language, e.g. en (default: detected).")
    ] = None,
    word_times: Annotated[
        bool, typer.Option("--word-times", help="Also return the times of words.")
    ] = False,
    max_cost: Annotated[
        str | None, typer.Option(help="Highest cost of a recording, as a decimal, e.g. 0.05.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if an option cannot be honoured.")
    ] = False,
    context: Annotated[
        str | None, typer.Option(help="Names and terms that occur in the recordings.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="|".join(FORMS), help="Format of the transcript.")
    ] = TEXT,
    submit_only: Annotated[
        bool, typer.Option("--async", help="Submit, print the ids, and do not wait.")
    ] = False,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Longest wait in seconds (default: no limit).")
    ] = None,
    print_response: Annotated[
        bool,
        typer.Option("--print-response", help="Print the API's JSON, one line per recording."),
    ] = False,
    output_dir: Annotated[
        Path, typer.Option(envvar="OUTPUT_DIR", help="Folder for the results.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Transcribe files, folders or URLs.

    Writes text and JSON to --output-dir and prints the text of a single file.

    Uses the gateway at ASR_GATEWAY_URL (with ASR_GATEWAY_KEY), or else starts one for the duration
    of the command. Exit code 0: all succeeded, 1: some failed, 2: usage error.
    """
    if form not in FORMS:
        raise UsageError(f"There is no format {form!r}; the formats are {', '.join(FORMS)}.")
    check_gateway_url()
    options = {
        "model": model,
        "language": language,
        "language_hints": ",".join(language_hints or ()),
        "timestamp_granularities": "word" if word_times else None,
        "max_cost": max_cost,
        "strict": "true" if strict else None,
        "context": context,
        # The progress is polled, so that no call waits for the end.
        **({"mode": "async"} if submit_only else {"wait": 0}),
    }
    request = TranscribeRequest(
        recordings_of([*(recordings or []), *(audio or [])]),
        {name: value for name, value in options.items() if value not in {None, ""}},
        form,
        OutputFolder(output_dir),
        submit_only,
        wait,
        print_response,
    )
    if not request.recordings:
        raise UsageError("Name at least one recording: a file, a folder or a URL.")
    if not submit_only:
        request.results.prepare()
    raise typer.Exit(run_async(lambda interrupts: _transcribe(request, interrupts)))


async def _transcribe(request: TranscribeRequest, interrupts: Interrupts) -> int:
    """Follow the recordings to their end, or until a signal or --wait; return the exit code."""
    display = ProgressDisplay(ProgressTracker(len(request.recordings)))
    async with connect(None if "model" in request.options else display.line) as api:
        await api.get("/v1/models")  # one sentence about a wrong key, not one for each recording
        with display:
            batch = _make_batch(api, request, display)
            interrupted = asyncio.Event()
            interrupts.listener = interrupted.set
            work = asyncio.create_task(_report(batch, request, display))
            signal = asyncio.create_task(interrupted.wait())
            measuring = asyncio.create_task(_measure(request.recordings, display))
            try:
                await asyncio.wait(
                    {work, signal}, timeout=request.wait, return_when="FIRST_COMPLETED"
                )
                if work.done():
                    return work.result()
                batch.begin_no_more()
                await stop_waiting(batch, display, interrupts, is_own=is_own())
                return interrupts.exit_code if interrupts.came else FAILED
            finally:
                interrupts.listener = None
                for task in (work, signal, measuring):
                    task.cancel()
                await asyncio.gather(work, signal, measuring, return_exceptions=True)


def _make_batch(api: GatewayApi, request: TranscribeRequest, display: ProgressDisplay) -> Batch:
    saving = asyncio.Lock()

    async def save(recording: Recording, body: Body) -> tuple[Path | None, str]:
        if request.submit_only:
            return None, ""
        forms = {TEXT: body["text"] or ""}
        if request.form not in {TEXT, JSON}:
            forms[request.form] = await api.transcript(body["id"], request.form)
        async with saving:
            path = await asyncio.to_thread(request.results.save, recording.name, body, forms)
        if request.form == JSON and request.is_single:
            forms[JSON] = await api.transcript(body["id"], JSON)
        return path, forms.get(request.form, "")

    return Batch(
        api, request.recordings, request.options, display.update, save, request.submit_only
    )


async def _report(batch: Batch, request: TranscribeRequest, display: ProgressDisplay) -> int:
    """Report each recording in its order; return the exit code."""
    failed, warned = 0, set[str]()
    async with aclosing(batch.outcomes()) as outcomes:
        async for outcome in outcomes:
            failed += bool(outcome.error)
            _report_outcome(outcome, request, display)
            for warning in (outcome.body or {}).get("warnings", ()):
                if warning["detail"] not in warned:
                    warned.add(warning["detail"])
                    display.line(f"{outcome.recording.shown}: {warning['detail']}")
    count = len(request.recordings)
    if count > 1:
        done = "submitted" if request.submit_only else f"transcribed, in {request.results.folder}"
        display.line(f"{count - failed} of {count} {done}; {failed} failed.")
    if request.submit_only and is_own():
        display.line(
            "Jobs that have not ended continue when the gateway runs again: asr-gateway serve"
        )
    return FAILED if failed else 0


def _report_outcome(outcome: Outcome, request: TranscribeRequest, display: ProgressDisplay) -> None:
    shown, body = outcome.recording.shown, outcome.body
    if request.prints_response and body is not None:
        _print(json.dumps(body, ensure_ascii=False, indent=2 if request.is_single else None))
    if outcome.error or body is None:
        display.line(f"{shown}: {outcome.error}")
    elif request.submit_only:
        if not request.prints_response:
            _print(body["id"] if request.is_single else f"{body['id']}\t{shown}")
        display.step(f"{shown}: submitted.")
    else:
        path, text = outcome.saved
        if request.is_single and not request.prints_response:
            _print(text.rstrip("\n"))
        seconds = (body["audio"] or {}).get("seconds") or 0
        display.step(f"{shown}: {seconds:g} s of audio, {path}.txt")


def _print(text: str) -> None:
    """Print a result; a terminal that cannot show a letter gets a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


async def _measure(recordings: Sequence[Recording], display: ProgressDisplay) -> None:
    """Read the lengths of the files beforehand, for the progress bar."""
    if not display.is_live:
        return
    settings = Settings().audio
    decoders = Decoders(settings)
    for index, recording in enumerate(recordings):
        if isinstance(recording.source, Path):
            try:
                found = await inspect(recording.source, decoders=decoders, settings=settings)
            except (GatewayError, OSError):
                continue  # the gateway reports what is wrong with the file
            if found.seconds is not None:
                display.learn(index, found.seconds)
