"""Runs commands as a container does: the image's user, environment and volumes, a read-only root.

Where the kernel allows mounts of our own, the root is mounted read-only for the command.
"""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.dockerfile import Image

READ_ONLY = """
mount --make-rprivate /
for volume in {volumes}; do mount --bind "$volume" "$volume"; done
mount -o remount,bind,ro /
exec {user} "$@"
"""


class Confined:
    """Runs commands of an image. `is_read_only` and `has_own_user`: the support of this machine."""

    def __init__(self, image: Image, **environment: str) -> None:
        self._image, self._environment = image, environment
        self.user = ""
        self._unshare: tuple[str, ...] = ()
        if shutil.which("unshare"):
            is_root = os.getuid() == 0
            self._unshare = ("unshare", "--mount", *(() if is_root else ("--map-root-user",)))
            if not self._works():
                self._unshare = ()
            elif is_root and _is_open_to_all(Path(sys.executable).resolve()):
                self._take_user()

    @property
    def is_read_only(self) -> bool:
        return bool(self._unshare)

    @property
    def has_own_user(self) -> bool:
        return bool(self.user)

    def run(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self._wrapped(words), **self._how(), capture_output=True, text=True, check=False
        )

    def start(self, words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
        with log.open("wb") as said:
            return subprocess.Popen(
                self._wrapped(words), **self._how(), stdout=said, stderr=subprocess.STDOUT
            )

    def _how(self) -> dict[str, Any]:
        home = {"HOME": str(self._image.workdir), "PATH": os.environ["PATH"]}
        environment: Mapping[str, str] = {**home, **self._image.environment, **self._environment}
        return {
            "cwd": self._image.workdir,
            "env": environment,
            "stdin": subprocess.DEVNULL,
        }

    def _wrapped(self, words: Sequence[str]) -> list[str]:
        if not self._unshare:
            return list(words)
        volumes = shlex.join(map(str, self._image.volumes))
        script = READ_ONLY.format(volumes=volumes, user=self.user)
        return [*self._unshare, "sh", "-ec", script, "sh", *words]

    def _works(self) -> bool:
        # By its whole path: a shell that may not follow it would take another one of the machine.
        python = self._image.root / "opt" / "gateway" / "bin" / "python"
        return self.run([str(python), "-c", "import app"]).returncode == 0

    def _take_user(self) -> None:
        """Change to the image's user, if that user can read this machine's Python."""
        uid, _, gid = self._image.user.partition(":")
        for volume in self._image.volumes:
            shutil.chown(volume, int(uid), int(gid))
        self.user = f"setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs --"
        if not self._works():
            self.user = ""
            for volume in self._image.volumes:
                shutil.chown(volume, 0, 0)


def _is_open_to_all(file: Path) -> bool:
    """Tell whether every user of this machine can read a file; not so in the home of root."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in file.parents)
