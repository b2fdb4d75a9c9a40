"""A pip that installs a lock by linking what this environment has, in the very versions it names.

It saves a test the download, and nothing else: what the lock does not name is not there, and all
that is not an install with hashes is left to the real pip.
"""

import os
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def main() -> int:
    """Act as `pip`, beside whose own self this stands under the name pips-own."""
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
    """Yield what a lock names for this machine; each must carry a hash."""
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        words, _, hashes = entry.partition("--hash=sha256:")
        assert hashes, f"{words} has no hash"
        requirement = Requirement(words.strip())
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def link(requirement: Requirement, site: Path) -> None:
    """Make a distribution's packages appear in another environment."""
    here = distribution(requirement.name)
    assert here.version in requirement.specifier, f"{requirement} is here as {here.version}"
    for name in {file.parts[0] for file in here.files or ()} - {"..", "__pycache__"}:
        place = site / name
        if not place.exists():
            place.symlink_to(Path(str(here.locate_file(name))).resolve())


if __name__ == "__main__":
    sys.exit(main())
