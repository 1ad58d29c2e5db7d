"""Imports point downwards: read from the import statements of every module, also those inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
JOINS = {"indexing", "search", "engine", "queries", "open_store", "upkeep", "tune", "tuning"}
JOINS |= {"calibrate", "calibration"}
JOINS |= {"tars_read", "pipeline", "scan", "candidates", "glances", "duplicates", "selecting", "under_way"}
JOINS |= {"ray_pipeline", "claims"}
TELL_WHAT_IS_STORED = {"answers", "tables", "serving.schemas"}
OPEN_STORES = {"commands.gallery", "serving.app", "serving.holding", "serving.indexer", "serving.service"}
OPEN_STORES |= {"commands.arguments", "serving.child"}
MAY_IMPORT_TORCH = {
    "backbones",
    "model",
    "losses",
    "trainee",
    "loader",
    "checkpoint",
    "train",
    "train_bundle",
    "randomised",
}
# From the top down: a module imports only from the lines below its own.
LAYERS = tuple(
    line.split()
    for line in """
    commands.demo commands.duplicates commands.serving
    commands.asking commands.gallery commands.judging commands.measuring commands.models commands.training
    commands commands.arguments commands.options commands.printing
    serving.processes
    serving.child
    serving.running
    serving.app
    serving.asking serving.browsing
    serving.holding
    serving.service serving.indexer
    serving.common serving.keeper serving.listening
    serving.gate serving.lanes serving.uploads serving.images serving.metrics serving.guard serving.schemas
    serving.stopping
    serving serving.terms serving.wanted
    reproduce_page reproduce_tables
    reproduce_table_page
    reproduce_answers reproduce_words reproduce
    reproduce_pairs reproduce_sets
    reproduced calibration_page duplicates_page
    make_bundle watching report crop_page evaluation_page faithfulness_report audit_page audit_tables audit_answers
    audit
    advice
    advice_looks advice_pictures
    advice_words audit_evidence audit_pictures
    audited
    answers dataset events mistakes page sheet sanity_tables duplicates_tables
    engine shown tables sanity
    queries
    open_store
    train_bundle crop
    measure curves
    train
    loader
    trainee
    losses checkpoint tune calibrate
    grid_game faithfulness
    compare search cropped
    focus looks
    explain indexing under_way baselines checked matches ray_pipeline
    scan claims
    tars_read pipeline
    galleries ray_worker
    lists remote_walk fetch
    tars
    methods upkeep correspond verify
    masked closed_form tuning calibration randomised sanity_pictures
    network split blocks ray_cluster
    reading
    model samples overlay demo duplicates
    bundle walk backbones evaluate blur cam glances
    pictures fit verdicts alignment candidates stars
    remote
    remote_http
    presets head files metrics progress pairs
    settings names groups selecting ahead shards portions ray_desk
    addresses
    errors
    """.strip().splitlines()
)
STORED_LAYERS = (
    ["homes"],
    ["catalogue", "faiss_home", "milvus_home"],
    ["lookups", "recording"],
    ["opening", "faiss_file", "milvus_index", "changes"],
    ["database", "postgres", "faiss_index", "milvus_server"],
    ["migrations", "place", "again", "dialects"],
    ["records", "schema", "base", "errors", "postgres_tables", "address", "below"],
)


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


@cache
def everywhere(name: str) -> set[str]:
    return set(imported(list(ast.walk(ast.parse(FILES[name].read_text("utf-8"))))))


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run, or may run, when the module is imported: all but the bodies of functions."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from at_import(child)


@cache
def when_imported(name: str) -> set[str]:
    return set(imported(list(at_import(ast.parse(FILES[name].read_text("utf-8"))))))


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@cache
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
    if name.removeprefix("retrieval.") not in JOINS | TELL_WHAT_IS_STORED | OPEN_STORES:
        assert "indexes" not in packages(everywhere(name))


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_imports_the_command_line(name: str) -> None:
    assert "cli" not in packages(everywhere(name))
    if not name.startswith("retrieval.commands"):
        assert not any(target.startswith("retrieval.commands") for target in everywhere(name))


@pytest.mark.parametrize(("package", "layers"), [("retrieval", LAYERS), ("indexes", STORED_LAYERS)])
def test_imports_point_downwards(package: str, layers: tuple[list[str], ...]) -> None:
    depth = {f"{package}.{name}": number for number, line in enumerate(layers) for name in line}
    assert depth.keys() == {name for name in FILES if name.startswith(f"{package}.")}
    upwards = [
        (name, other)
        for name in depth
        for other in graph()[name] - {name, package}
        if other in depth and depth[other] <= depth[name]
    ]
    assert upwards == []


def test_no_module_comes_back_to_itself() -> None:
    assert cycle(graph()) == []


def test_a_cycle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]


def loaded_with(name: str) -> set[str]:
    """Every module of the project that importing this one imports, itself included."""
    found, new = set[str](), {name}
    while new:
        found |= new
        targets = {target for one in new if one != "retrieval" for target in when_imported(one)}
        new = {other for target in targets for other in (target, target.rpartition(".")[0]) if other in FILES} - found
    return found


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_these_import_torch_at_the_top(name: str) -> None:
    if name.removeprefix("retrieval.") not in MAY_IMPORT_TORCH:
        assert not packages(when_imported(name)) & {"torch", "torchvision", "timm", "pytorch_grad_cam"}


@pytest.mark.parametrize("name", ["engine", "indexing", "search", "explain", "network", "compare", "report", "overlay"])
def test_what_a_query_needs_loads_no_torch(name: str) -> None:
    assert not loaded_with(f"retrieval.{name}") & {"retrieval.model", "retrieval.backbones", "retrieval.fit"}


@pytest.mark.parametrize("name", ["audit", "audit_page", "audit_tables", "audit_answers"])
def test_what_an_audit_needs_loads_no_torch(name: str) -> None:
    assert not loaded_with(f"retrieval.{name}") & {f"retrieval.{other}" for other in MAY_IMPORT_TORCH}


def test_what_is_loaded_is_followed_through_modules() -> None:
    assert {"retrieval.settings", "indexes.schema"} <= loaded_with("retrieval.engine")
    assert "retrieval.backbones" in loaded_with("retrieval.model")
