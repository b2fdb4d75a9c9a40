"""Runs the commands of a Dockerfile without a container engine, with a folder as the root.

Absolute paths of the image are moved below that folder. The tools of a base image are this
machine's, except for `useradd`, which only creates the home. Each stage begins with an empty
folder.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES_PATHS = re.compile(r"(?<![\w./}])/(?=(?:opt|build|var/lib/gateway)\b)")
USERADD = """#!/bin/sh
while [ $# -gt 0 ]; do
    if [ "$1" = --home-dir ]; then mkdir -p "$2"; fi
    shift
done
"""
PYTHON = """#!/bin/sh
{python} "$@" || exit 1
if [ "$1 $2" = "-m venv" ] && [ -n "{pip}" ]; then
    mv "$3/bin/pip" "$3/bin/pips-own" && cp "{pip}" "$3/bin/pip"
fi
"""


@dataclass
class Image:
    """The result of a build: the root, and the run options of the last stage."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: Path = Path("/")
    user: str = "0"
    command: Sequence[str] = ()
    health: Sequence[str] = ()
    health_flags: str = ""
    volumes: list[Path] = field(default_factory=list)


def instructions(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile and its arguments, with continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, words = line.strip().partition(" ")
            yield name.upper(), words.strip()


@dataclass
class Builder:
    """Builds in `folder`. `pip` is a program that replaces the environment's pip."""

    folder: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    pip: Path | None = None

    def build(self) -> Image:
        """Run every instruction and return the last stage. Raises CalledProcessError."""
        self._stages: dict[str, Path] = {}
        self._image = Image(self.folder / "root")
        self._args: dict[str, str] = {}
        self._tools()
        for name, words in instructions(ROOT / "Dockerfile"):
            getattr(self, f"_{name.lower()}")(words)
        return self._image

    def _tools(self) -> None:
        tools = self.folder / "tools"
        tools.mkdir(parents=True)
        python = PYTHON.format(python=self._python(), pip=self.pip or "")
        for name, script in {"useradd": USERADD, "python": python}.items():
            (tools / name).write_text(script)
            (tools / name).chmod(0o755)

    def _python(self) -> str:
        return str(getattr(sys, "_base_executable", sys.executable))

    def _from(self, words: str) -> None:
        _, _, stage = words.partition(" AS ")
        if self._image.root.exists():  # results of the previous stage are not inherited
            self._image.root.rename(self.folder / "before")
        self._image = Image(self.folder / "root")
        self._image.root.mkdir()
        self._stages[stage] = self.folder / "before"
        self._args = {}

    def _arg(self, words: str) -> None:
        name, _, default = words.partition("=")
        self._args[name] = self.arguments.get(name, default)

    def _workdir(self, words: str) -> None:
        self._image.workdir = Path(self._moved(words))
        self._image.workdir.mkdir(parents=True, exist_ok=True)

    def _env(self, words: str) -> None:
        for pair in shlex.split(words):
            name, _, value = pair.partition("=")
            path = self._environment()["PATH"]
            self._image.environment[name] = self._moved(value).replace("$PATH", path)

    def _run(self, words: str) -> None:
        subprocess.run(
            ["/bin/sh", "-ec", self._moved(words)],
            cwd=self._image.workdir,
            env=self._environment(),
            check=True,
            capture_output=True,
            text=True,
        )

    def _copy(self, words: str) -> None:
        first, *rest = shlex.split(words)
        stage = first.removeprefix("--from=") if first.startswith("--from=") else None
        *sources, target = rest if stage is not None else [first, *rest]
        to = self._image.workdir / self._moved(target)
        for source in sources:
            if stage is not None:
                place = self._stages[""] / source.lstrip("/")
                shutil.copytree(place, to, symlinks=True)
            else:
                self._copy_context(source, to, is_folder=target.endswith("/"))

    def _copy_context(self, source: str, to: Path, *, is_folder: bool) -> None:
        files = list(context(source))
        assert files, f"COPY {source}: .dockerignore lets nothing of it in"
        for file in files:
            inside = file.relative_to(ROOT / source) if (ROOT / source).is_dir() else None
            place = to / inside if inside else to / file.name if is_folder else to
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)

    def _user(self, words: str) -> None:
        self._image.user = words

    def _volume(self, words: str) -> None:
        self._image.volumes.append(Path(self._moved(words)))

    def _expose(self, _words: str) -> None:
        """Ignore EXPOSE: ports are this machine's."""

    def _stopsignal(self, words: str) -> None:
        assert words == "SIGTERM"

    def _healthcheck(self, words: str) -> None:
        self._image.health_flags, _, command = words.partition(" CMD ")
        self._image.health = json.loads(command)

    def _cmd(self, words: str) -> None:
        self._image.command = json.loads(words)

    def _moved(self, words: str) -> str:
        return IMAGES_PATHS.sub(f"{self._image.root}/", words)

    def _environment(self) -> dict[str, str]:
        path = f"{self.folder / 'tools'}:{os.environ['PATH']}"
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        pips = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        plain = {"PATH": path, "HOME": str(self.folder), **pips, **quiet}
        return {**plain, **self._args, **self._image.environment}


def context(source: str) -> Iterator[Path]:
    """Yield the files below a path of the repository that .dockerignore does not exclude."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    top = ROOT / source
    for file in [top] if top.is_file() else sorted(top.rglob("*")):
        if file.is_file() and not _is_ignored(file.relative_to(ROOT), patterns):
            yield file


def _is_ignored(path: Path, patterns: Sequence[str]) -> bool:
    steps = [str(path), *map(str, path.parents)]
    ignored = False
    for pattern in patterns:
        plain = pattern.removeprefix("!").removeprefix("**/")
        anywhere = pattern.startswith("**/")
        names = path.parts if anywhere else steps
        if any(fnmatch.fnmatchcase(name, plain) for name in names):
            ignored = not pattern.startswith("!")
    return ignored
