"""The order of the house: unique names, tests in their places, small folders, documents that name real files."""

import ast
import importlib.util
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import retrieval

ROOT = Path(__file__).parent.parent
CODE = [ROOT / "cli.py", *sorted((ROOT / "retrieval").rglob("*.py")), *sorted((ROOT / "indexes").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FOLDERS = sorted(
    folder
    for name in ("retrieval", "indexes")
    for folder in [ROOT / name, *(ROOT / name).rglob("*/")]
    if folder.name != "__pycache__"
)
MOST_ENTRIES = 13
PROJECT_TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
INSTALLABLE = {"tensorboard", *(f"[{extra}]" for extra in PROJECT_TABLE["project"]["optional-dependencies"])}


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


def installed(text: str) -> Iterator[str]:
    """Yield what the installation lines of a text install: packages, and `[extra]` of this one."""
    for line in re.findall(r"pip install ([^`\n{}]+?)(?:`|\s{2,}|\n|\\n)", text):
        package, _, extras = line.strip("'\" ").rstrip("]").partition("[")
        yield from (f"[{extra}]" for extra in extras.split(",") if package == "." and extra)
        if package != ".":
            yield package


@pytest.mark.parametrize("file", [*DOCUMENTS, *CODE], ids=str)
def test_every_installation_line_works_in_a_checkout(file: Path) -> None:
    assert set(installed(file.read_text("utf-8"))) <= INSTALLABLE


def test_installation_lines_are_found() -> None:
    text = "    pip install .    # core\n    pip install '.[s3,ray]'   # more\n`pip install retrieve-explain[s3]`"
    assert list(installed(text)) == ["[s3]", "[ray]", "retrieve-explain"]


def test_the_image_is_made_of_what_the_package_is() -> None:
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    project, tool = PROJECT_TABLE["project"], PROJECT_TABLE["tool"]["setuptools"]
    packages = {name.removesuffix(".*") for name in tool["packages"]["find"]["include"]}
    modules = {f"{name}.py" for name in tool.get("py-modules", [])}
    assert given >= {"pyproject.toml", project["readme"], *project["license-files"], *packages, *modules}
    assert all((ROOT / name).exists() for name in given)


def test_the_release_has_one_version() -> None:
    changelog, citation = ((ROOT / name).read_text("utf-8") for name in ("CHANGELOG.md", "CITATION.cff"))
    version, date = re.findall(r"^## (\d\S*) - (\S+)$", changelog, re.MULTILINE)[0]
    assert retrieval.__version__ == version
    assert f"\nversion: {version}\ndate-released: {date}\n" in citation
    assert f":{version}\n" in (ROOT / "docs" / "deploy" / "index-job.yaml").read_text("utf-8")
