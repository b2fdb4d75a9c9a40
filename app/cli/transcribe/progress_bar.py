"""Progress on stderr while recordings are transcribed: a bar on a terminal, else lines."""

import sys
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from app.cli.transcribe.progress import ProgressState, ProgressTracker

MINUTE, HOUR = 60, 3600


class ProgressDisplay:
    """Shows a tally on stderr while the block lasts: as a bar, where that is a terminal."""

    def __init__(self, tally: ProgressTracker) -> None:
        self.tally = tally
        self.is_live = sys.stderr.isatty()
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[words]}"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self.is_live:
            self._task = self._progress.add_task("", total=1.0, words="")
            self.refresh()
            self._progress.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _story: TracebackType | None,
    ) -> None:
        self.hide()

    def refresh(self) -> None:
        """Show the tally as it is now."""
        if self._task is not None:
            standing = self.tally.standing()
            self._progress.update(
                self._task, completed=standing.share, words=progress_text(standing)
            )

    def hide(self) -> None:
        """Take the bar away, so that a question can be asked."""
        if self.is_live:
            self._progress.stop()

    def line(self, words: str) -> None:
        """Say something in a line of its own, above the bar."""
        if self.is_live:
            self._console.print(Text(words), soft_wrap=True)
        else:
            with suppress(BrokenPipeError):  # a closed stderr does not stop the transcription
                print(words, file=sys.stderr, flush=True)

    def step(self, words: str) -> None:
        """Say that something went well, where no bar shows it."""
        if not self.is_live:
            self.line(words)


def progress_text(standing: ProgressState) -> str:
    """Return a standing in words: `12 of 340 s of audio, 0:42 left`."""
    left = "" if standing.left is None else f", {_clock(standing.left)} left"
    return f"{standing.done:.0f} of {standing.total:.0f} s of audio{left}"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // HOUR, whole % HOUR // MINUTE
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{whole % MINUTE:02}"
