"""The wings of the house, from the top down: a module imports only from its own wing and from those below it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WINGS = (  # those of one line stand side by side and do not know each other
    ("cli",),
    ("retrieval.commands",),
    ("retrieval.server",),
    ("retrieval.engine",),
    ("retrieval.training",),
    ("retrieval.store", "retrieval.evaluation"),
    ("retrieval.datasets",),
    ("retrieval.rendering",),
    ("retrieval.explain",),
    ("retrieval.model",),
    ("retrieval.sources",),
    ("retrieval.common",),
    ("indexes.vectors",),
    ("indexes.catalogue",),
    ("indexes.arrays", "indexes.atomic_files", "indexes.errors"),
    ("indexes.retry",),
)
FILES = [ROOT / "cli.py", *sorted((ROOT / "retrieval").rglob("*.py")), *sorted((ROOT / "indexes").rglob("*.py"))]


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): file for file in FILES}


def wing_of(module: str) -> tuple[int, str] | None:
    """Return the number of a module's line in the list, and its wing."""
    for number, line in enumerate(WINGS):
        for wing in line:
            if module == wing or module.startswith(f"{wing}."):
                return number, wing
    return None


@cache
def imports(module: str) -> set[str]:
    """Return the project's modules that this one imports, also inside functions."""
    names = set(_imported(ast.parse(MODULES[module].read_text("utf-8"))))
    return {name if name in MODULES else name.rpartition(".")[0] for name in names} & MODULES.keys()


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"retrieval", "indexes"}))
def test_imports_point_downwards(module: str) -> None:
    place = wing_of(module)
    assert place, "this module is in no wing: put it in one, or add the wing to the list"
    others = {other: wing_of(other) for other in imports(module)}
    upwards = {other for other, its in others.items() if its and its != place and its[0] <= place[0]}
    assert not upwards


def cycle(modules: dict[str, set[str]]) -> list[str]:
    """Return a chain of imports that leads back to its start, or nothing."""
    done: set[str] = set()

    def visit(name: str, chain: list[str]) -> list[str]:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name in done:
            return []
        found = next(filter(None, (visit(other, [*chain, name]) for other in sorted(modules.get(name, ())))), [])
        done.add(name)
        return found

    return next(filter(None, (visit(name, []) for name in modules)), [])


def test_no_module_imports_itself_in_a_circle() -> None:
    assert cycle({name: imports(name) for name in MODULES if name != "retrieval"}) == []
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
