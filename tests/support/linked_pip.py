"""A pip that installs a lock file by links to packages of this environment, in the same versions.

It only saves the download: packages that are not in the lock file are not installed, and every
command other than an installation with hashes is passed on to the real pip.
"""

import os
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def main() -> int:
    """Act as `pip`. The real pip is beside this file under the name pips-own."""
    own, *words = sys.argv[1:]
    if "--require-hashes" not in words:
        os.environ.pop("PYTHONPATH")  # led here, and to nothing else
        os.execv(f"{own}s-own", [f"{own}s-own", *words])  # noqa: S606
    lock = Path(words[words.index("-r") + 1])
    (site,) = Path(own).parents[1].glob("lib/python*/site-packages")
    for requirement in locked(lock):
        link(requirement, site)
    return 0


def locked(lock: Path) -> Iterator[Requirement]:
    """Yield the requirements of a lock file for this machine; each must have a hash."""
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        words, _, hashes = entry.partition("--hash=sha256:")
        assert hashes, f"{words} has no hash"
        requirement = Requirement(words.strip())
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def link(requirement: Requirement, site: Path) -> None:
    """Link the packages of a distribution into another environment."""
    here = distribution(requirement.name)
    assert here.version in requirement.specifier, f"{requirement} is here as {here.version}"
    for name in {file.parts[0] for file in here.files or ()} - {"..", "__pycache__"}:
        place = site / name
        if not place.exists():
            place.symlink_to(Path(str(here.locate_file(name))).resolve())


if __name__ == "__main__":
    sys.exit(main())
