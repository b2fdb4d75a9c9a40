"""Figures of plain language and shape, computed from the syntax trees of modules."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

_PRONOUN = r"(?:what|who|whoever|whatever|whom|whose|nobody|somebody|anybody)"
# A sentence or clause that begins with a pronoun, and a pronoun that is the subject of a verb.
_CLAUSE = re.compile(
    rf"(?:^|[.:;,(]\s+|\n\s*)(?:{_PRONOUN}|of (?:what|who|whom|these|those|it))\b", re.IGNORECASE
)
_SUBJECT = re.compile(
    r"\b(?:what|who|whoever|whatever|nobody|somebody|anybody)\s+"
    r"(?:is|are|was|were|has|have|had|can|could|may|might|must|will|would|does|did|came|comes|became|"
    r"waits|holds|asks|asked|tells|listens|calls|called|begins|ends|goes|went|takes|took|knows|needs|"
    r"it|they|a|an|the|that|this|we|one|there|of|else|gets|follows|stands|remains)\b",
    re.IGNORECASE,
)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parse(paths: Iterable[Path]) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in paths}


def docstrings(trees: dict[Path, ast.Module]) -> dict[str, str]:
    """Return every docstring by its place."""
    return {
        f"{path}:{getattr(node, 'lineno', 1)}": text
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node))
    }


def is_built_on_a_pronoun(docstring: str) -> bool:
    """Tell whether a docstring has a pronoun where the domain's noun should be."""
    return bool(_CLAUSE.search(docstring) or _SUBJECT.search(docstring))


def private_functions_used_once(trees: dict[Path, ast.Module]) -> tuple[list[str], int]:
    """Return the private functions that are used once, and the number of all functions."""
    functions = [
        (node.name, f"{path}:{node.lineno} {node.name}")
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, _FUNCTIONS)
    ]
    uses: Counter[str] = Counter()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                uses[node.id] += 1
            elif isinstance(node, ast.Attribute):
                uses[node.attr] += 1
    once = [
        place
        for name, place in functions
        if name.startswith("_") and not name.startswith("__") and uses[name] == 1
    ]
    return once, len(functions)


def names_of_several_modules(trees: dict[Path, ast.Module]) -> list[str]:
    """Return the names of functions and classes that several modules define at their top level."""
    modules: defaultdict[str, set[Path]] = defaultdict(set)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                modules[node.name.lstrip("_")].add(path)
    return sorted(name for name, paths in modules.items() if len(paths) > 1)
