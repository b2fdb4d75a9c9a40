"""The test modules that cover a module of the gateway, from the `Covers:` lines of docstrings.

python -m tests.support.where_tested app.jobs.upstream.caller
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COVERS = re.compile(r"^Covers:(.*?)(?:\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)


def list_test_modules() -> list[Path]:
    return sorted((ROOT / "tests").rglob("test_*.py"))


def covered_by(path: Path) -> list[str]:
    """Return the modules in the `Covers:` line of a test module."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    found = _COVERS.search(docstring)
    return [] if found is None else [name.strip(" .\n") for name in found[1].split(",")]


def modules() -> list[str]:
    """Return the names of all modules of the gateway, without packages' `__init__`."""
    paths = (path.relative_to(ROOT) for path in (ROOT / "app").rglob("*.py"))
    return sorted(
        ".".join(path.with_suffix("").parts) for path in paths if path.name != "__init__.py"
    )


def main(module: str) -> int:
    found = [path for path in list_test_modules() if module in covered_by(path)]
    for path in found:
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    if not found:
        sys.stderr.write(f"No test module says that it covers {module}.\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
