"""The order of the house: unique names, tests in their places, small folders, documents that name real files."""

import ast
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
CODE = [ROOT / "cli.py", *sorted((ROOT / "retrieval").rglob("*.py")), *sorted((ROOT / "indexes").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = sorted(folder for name in ("retrieval", "indexes") for folder in [ROOT / name, *(ROOT / name).rglob("*/")])
MOST_ENTRIES = 13


def types_of(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the classes and type aliases that a module defines at its top."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.lstrip("_")[:1].isupper() and not name.isupper() and len(name) > 1:
                yield name


def test_no_class_or_type_has_the_name_of_another() -> None:
    modules = defaultdict(list)
    for file in CODE:
        for name in types_of(ast.parse(file.read_text("utf-8"))):
            modules[name].append(file.relative_to(ROOT).as_posix())
    assert {name: files for name, files in modules.items() if len(files) > 1} == {}
    assert "Engine" in modules


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Yield every name that a module defines or uses."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "arg", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                yield value


@pytest.mark.parametrize("file", [*CODE, *TESTS, *sorted((ROOT / "benchmarks").rglob("*.py"))], ids=str)
def test_no_identifier_is_a_relic(file: Path) -> None:
    relic = re.compile(r"(?:^|_)(?:told|asked|wanted|stands)(?:_|$)")
    assert not {name for name in identifiers(ast.parse(file.read_text("utf-8"))) if relic.search(name)}


@pytest.mark.slow
@pytest.mark.parametrize("file", TESTS, ids=str)
def test_no_test_imports_a_test(file: Path) -> None:
    imported = {
        node.module
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert not {name for name in imported if name.startswith("tests.") and ".test_" in name}


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_no_level_has_too_many_entries(folder: Path) -> None:
    entries = [entry.name for entry in folder.iterdir() if entry.name not in ("__init__.py", "__pycache__", "py.typed")]
    if folder.name != "static":
        assert len(entries) <= MOST_ENTRIES, entries


def drawing() -> ModuleType:
    """Return the script that draws the wings, as a module."""
    spec = importlib.util.spec_from_file_location("draw_wings", ROOT / "docs" / "draw_wings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_the_wings_is_of_today() -> None:
    script = drawing()
    assert script.PICTURE.read_text("utf-8") == script.draw(), "run python docs/draw_wings.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    roots = [ROOT, document.parent, ROOT / "retrieval"]
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*\.(?:py|css|js|json|html|safetensors))`", document.read_text("utf-8"))
    assert [
        name for name in named if not name.startswith("demo/") and not any((root / name).exists() for root in roots)
    ] == []
