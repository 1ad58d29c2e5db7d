"""A gallery of odd and broken files is indexed to its end, and every good picture in it finds itself."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from retrieval.engine import Engine
from retrieval.model.bundle import SHIPPED, Bundle
from tests.support.odd_files import BAD, CLOSED, GOOD, build
from tests.support.unprivileged import permissions_bind, run_unprivileged

_INDEX = """
import json, os, sys
from retrieval.engine import Engine
engine = Engine.create(sys.argv[1], sys.argv[2], device="cpu")
report = engine.index(sys.argv[3])
failures = [[os.fsencode(path).hex(), reason] for path, reason in report.failures]
print(json.dumps({"added": report.added, "embedded": report.embedded, "missing": report.missing, "failures": failures}))
"""


@dataclass(frozen=True)
class Indexed:
    """The folder, what was expected of it, and what an indexing that permissions bind made of it."""

    folder: Path
    good: list[bytes]
    bad: dict[bytes, str]
    added: int
    failures: dict[bytes, str]
    engine: Engine


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Indexed]:
    folder = tmp_path_factory.mktemp("odd") / "gallery"
    store = folder.parent / "store"
    good, bad = build(folder)
    if not permissions_bind(folder.parent):
        closed = os.path.join(os.fsencode(folder), CLOSED)
        os.unlink(closed)
        del bad[closed]
    model = "default" if (SHIPPED / "default" / "model.json").is_file() else str(tiny_bundle.folder)
    done = run_unprivileged(_INDEX, store, model, folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    failures = {bytes.fromhex(path): reason for path, reason in report["failures"]}
    engine = Engine.open(store, device="cpu")
    yield Indexed(folder, good, bad, report["added"], failures, engine)
    engine.close()


def test_there_are_many_kinds() -> None:
    assert len(GOOD) + len(BAD) >= 30


def test_the_failures_are_exactly_the_bad_files(indexed: Indexed) -> None:
    assert indexed.failures.keys() == indexed.bad.keys()
    wrong = {path: reason for path, reason in indexed.failures.items() if indexed.bad[path] not in reason}
    assert wrong == {}


def test_the_catalogue_keeps_the_failures_with_their_reasons(indexed: Indexed) -> None:
    assert dict(indexed.engine.catalogue.scans.failures()) == indexed.failures


def test_every_good_file_is_added(indexed: Indexed) -> None:
    known = [known.path for known in indexed.engine.catalogue.scans.known_files(os.fsencode(indexed.folder))]
    assert known == sorted(indexed.good)
    assert indexed.added == len(indexed.good)


def test_every_good_file_finds_itself_first(indexed: Indexed) -> None:
    for path in indexed.good:
        (hit,) = indexed.engine.query(Path(os.fsdecode(path)), top=1, explain=False)
        assert os.fsencode(hit.path) == path
        assert hit.similarity >= 0.99


def test_odd_files_are_explained(indexed: Indexed) -> None:
    named = {os.path.basename(path): Path(os.fsdecode(path)) for path in indexed.good}
    for name in (b"1x1.png", b"30000x2.png", b"one bit.png", b"phone.heic", b"no utf-8 \xff\xfe.jpg"):
        first, second = indexed.engine.query(named[name], top=2, method="ensemble")
        assert first.explanation is not None
        assert second.explanation is not None
        assert (first.explanation.identical, second.explanation.identical) == (True, False)
        assert second.explanation.query.magnitude > 0


def test_indexing_again_does_only_what_failed(indexed: Indexed) -> None:
    # The closed file is not closed to a root that runs the tests, so it goes first.
    (indexed.folder / os.fsdecode(CLOSED)).unlink(missing_ok=True)
    report = indexed.engine.index(indexed.folder)
    assert (report.added, report.unchanged, report.missing) == (0, len(indexed.good), 0)
    expected = {path for path in indexed.bad if os.path.basename(path) != CLOSED}
    assert {os.fsencode(path) for path, _ in report.failures} == expected
