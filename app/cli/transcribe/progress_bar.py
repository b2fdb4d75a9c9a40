"""Progress on stderr while recordings are transcribed: a bar on a terminal, else lines."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from app.cli.transcribe.progress import ProgressState, ProgressTracker

MINUTE, HOUR = 60, 3600


class ProgressDisplay:
    """Shows the progress on stderr while the block lasts: as a bar, where that is a terminal."""

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker
        self.is_live = sys.stderr.isatty()
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self.is_live:
            self._task = self._progress.add_task("", total=1.0, text="")
            self._refresh()
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def update(self, index: int, body: Mapping[str, Any] | None) -> None:
        """Show the latest answer of the API about a recording; None at its end."""
        if body is None:
            self._tracker.end(index)
        else:
            seconds = (body["audio"] or {}).get("seconds")
            if seconds is not None:
                self._tracker.learn(index, seconds)
            self._tracker.advance(index, body["progress"])
        self._refresh()

    def learn(self, index: int, seconds: float) -> None:
        """Show the length of a recording."""
        self._tracker.learn(index, seconds)
        self._refresh()

    def _refresh(self) -> None:
        if self._task is not None:
            state = self._tracker.state()
            self._progress.update(self._task, completed=state.share, text=progress_text(state))

    def hide(self) -> None:
        """Remove the bar, so that a question can be asked."""
        if self.is_live:
            self._progress.stop()

    def line(self, text: str) -> None:
        """Print a line, above the bar."""
        if self.is_live:
            self._console.print(Text(text), soft_wrap=True)
        else:
            with suppress(BrokenPipeError):  # a closed stderr does not stop the transcription
                print(text, file=sys.stderr, flush=True)

    def step(self, text: str) -> None:
        """Print a line about a success, unless the bar shows it."""
        if not self.is_live:
            self.line(text)


def progress_text(state: ProgressState) -> str:
    """Return a text such as `12 of 340 s of audio, 0:42 left`."""
    text = f"{state.done:.0f} of {state.total:.0f} s of audio"
    if state.left is None:
        return text
    left = round(state.left)
    hours, minutes, seconds = left // HOUR, left % HOUR // MINUTE, left % MINUTE
    return f"{text}, {f'{hours}:{minutes:02}' if hours else minutes}:{seconds:02} left"
