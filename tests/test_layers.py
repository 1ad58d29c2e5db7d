"""Imports point downwards: read from the import statements of every module, also those inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
JOINS = {"indexing", "search", "engine"}
THROUGH_THE_ENGINE = {"evaluate", "demo", "fit"}
MAY_IMPORT_TORCH = {"backbones", "model", "fit"}


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(file): file for folder in ("retrieval", "indexes") for file in sorted((ROOT / folder).rglob("*.py"))}
OURS = {name for name in FILES if name.startswith("retrieval.")}


def imported(nodes: list[ast.AST]) -> Iterator[str]:
    """What the import statements among these nodes name: modules, and names in modules as `module.name`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def everywhere(name: str) -> set[str]:
    return set(imported(list(ast.walk(ast.parse(FILES[name].read_text("utf-8"))))))


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run, or may run, when the module is imported: all but the bodies of functions."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from at_import(child)


def when_imported(name: str) -> set[str]:
    return set(imported(list(at_import(ast.parse(FILES[name].read_text("utf-8"))))))


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def graph() -> dict[str, set[str]]:
    """Every module of the project with those that it imports; the package itself is left out."""
    return {
        name: {other for target in everywhere(name) for other in (target, target.rpartition(".")[0]) if other in FILES}
        for name in FILES
        if name != "retrieval"
    }


def cycle(modules: dict[str, set[str]]) -> list[str]:
    """A chain of imports that comes back to where it began, or nothing."""
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


def test_there_are_modules_to_read() -> None:
    assert {"retrieval", "retrieval.engine", "indexes", "indexes.catalogue"} <= FILES.keys()
    assert "indexes.catalogue" in graph()["retrieval.search"]
    assert "torch" in packages(everywhere("retrieval.network"))
    assert "torch" not in packages(when_imported("retrieval.network"))


@pytest.mark.parametrize("name", sorted(FILES.keys() - OURS - {"retrieval"}))
def test_indexes_stand_alone(name: str) -> None:
    assert not packages(everywhere(name)) & {"retrieval", "cli", "torch", "torchvision", "timm", "openvino", "PIL"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_only_these_join_retrieval_and_indexes(name: str) -> None:
    if name.removeprefix("retrieval.") not in JOINS | THROUGH_THE_ENGINE:
        assert "indexes" not in packages(everywhere(name))


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_imports_the_command_line(name: str) -> None:
    assert "cli" not in packages(everywhere(name))


def test_no_module_comes_back_to_itself() -> None:
    assert cycle(graph()) == []


def test_a_cycle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_torch_is_loaded_only_where_it_is_needed(name: str) -> None:
    if name.removeprefix("retrieval.") not in MAY_IMPORT_TORCH:
        heavy = {"torch", "torchvision", "timm", "pytorch_grad_cam"}
        assert not packages(when_imported(name)) & heavy
        if name != "retrieval":  # its imports under TYPE_CHECKING do not run
            assert not when_imported(name) & {"retrieval.model.load_model", "retrieval.backbones.build_backbone"}
