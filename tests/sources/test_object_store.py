"""Galleries on an object store: indexed, updated and queried as folders are; tars and lists."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from indexes.catalogue.scans import ScanRecords
from retrieval.commands.query import _fetch_source
from retrieval.common.errors import GalleryError
from retrieval.engine import Engine
from retrieval.model.bundle import Bundle
from retrieval.sources.entries import HIDDEN, OWN_NAMES
from retrieval.sources.files import open_file
from retrieval.sources.location import parse_location
from tests.support.galleries import png, rows, tar_of
from tests.support.generated import blocks
from tests.support.objects import Objects


@pytest.fixture
def engine(tmp_path: Path, tiny_bundle: Bundle) -> Iterator[Engine]:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    yield engine
    engine.close()


def gets(objects: Objects, ending: str = "") -> list[str]:
    """Return the objects that were read since the last call."""
    paths = [path for method, path in objects.requests if method == "GET" and "list-type" not in path]
    objects.requests.clear()
    return [path for path in paths if path.partition("?")[0].endswith(ending)]


ODD = ("k e y+1.png", "#half?.png", "50%.png", "ü/日本 é.png", "a%20b.png", "[red]'\"&.png")


@pytest.mark.slow
def test_a_bucket_is_indexed_as_a_folder_is(engine: Engine, objects: Objects, tmp_path: Path) -> None:
    keys = ("b/2.png", "b/1.png", "a.png", "b.png", "b-c/1.png", *ODD)
    for number, key in enumerate(keys):
        objects.put(f"g/{key}", png(number))
        (tmp_path / "g" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "g" / key).write_bytes(png(number))
    for other in ("g/notes.md", "g/.hidden/1.png", "g/.1.png", "g/hit-01-query-factual.jpg", "gg/1.png"):
        objects.put(other, b"x")
    report = engine.index(f"{objects.address}/g/")
    assert (report.added, report.embedded, report.failed) == (len(keys), len(keys), 0)
    assert report.passed_over == {".md": 1, HIDDEN: 2, OWN_NAMES: 1}
    remote = rows(engine)
    engine.index(tmp_path / "g")
    local = {path: label for path, label in rows(engine).items() if path.startswith("/")}
    assert remote == {path.replace(str(tmp_path), objects.address): label for path, label in local.items()}
    assert engine.catalogue.scans.roots() == [os.fsencode(tmp_path / "g"), os.fsencode(f"{objects.address}/g")]


@pytest.mark.slow
def test_only_what_changed_is_read(engine: Engine, objects: Objects) -> None:
    for number in range(6):
        objects.put(f"g/{number}.png", png(number))
    engine.index(f"{objects.address}/g")
    assert len(gets(objects)) == 6
    report = engine.index()
    assert (report.unchanged, report.added, gets(objects)) == (6, 0, [])
    objects.put("g/1.png", png(100))
    objects.put("g/7.png", png(3))  # a copy
    objects.delete("g/2.png")
    gets(objects)
    report = engine.index()
    assert (report.added, report.embedded, report.reused, report.missing, report.unchanged) == (2, 1, 1, 1, 4)
    assert sorted(path.rpartition("/")[2] for path in gets(objects)) == ["1.png", "7.png"]
    objects.put("g/2.png", png(2))
    assert engine.index().reused == 1


def test_a_broken_object_fails_itself(engine: Engine, objects: Objects) -> None:
    objects.put("g/good.png", png(1))
    objects.put("g/empty.png", b"")
    objects.put("g/text.jpg", b"no picture")
    report = engine.index(f"{objects.address}/g")
    assert report.added == 1
    assert dict(report.failures) == {
        f"{objects.address}/g/empty.png": "is empty",
        f"{objects.address}/g/text.jpg": "is not a picture in a known format",
    }


@pytest.mark.slow
def test_an_emptied_bucket_loses_nothing(engine: Engine, objects: Objects) -> None:
    objects.put("g/1.png", png(1))
    objects.put("g/notes.md", b"x")
    engine.index(f"{objects.address}/g")
    objects.delete("g/1.png")
    report = engine.index()
    assert (report.missing, [str(root) for root in report.kept_roots]) == (0, [f"{objects.address}/g"])


@pytest.mark.parametrize("name", ["nothing", "nothing.tar", "nothing.txt"])
def test_a_missing_gallery_is_not_recorded(engine: Engine, objects: Objects, name: str) -> None:
    with pytest.raises(GalleryError, match=f"{name} does not exist, so nothing was marked missing"):
        engine.index(f"{objects.address}/{name}")
    assert engine.catalogue.scans.roots() == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("foo://x/y", r"foo:// is not a supported kind of address"),
        ("s3://b/x.tar.gz", r"is compressed, and its pictures cannot be read one by one: give a plain \.tar"),
    ],
)
def test_no_such_gallery(engine: Engine, address: str, message: str) -> None:
    with pytest.raises(GalleryError, match=message):
        engine.index(address)


# Tars

SHARD = (
    ("b/1.png", png(1)),
    ("./b/0.png", png(0)),
    ("0001.cls", b"7\n"),
    ("0001.png", png(2)),
    ("0002.jpg", b"no picture"),
    (".hidden.png", png(3)),
    ("0003.json", b"{}"),
)


def members(engine: Engine) -> dict[str, str | None]:
    return {path.partition("#")[0].rpartition(".tar/")[2]: label for path, label in rows(engine).items()}


@pytest.mark.slow
def test_a_tar_is_entered_as_a_folder_is(engine: Engine, objects: Objects) -> None:
    address = objects.put("g/a.tar", tar_of(*SHARD))
    objects.put("g/a.png", png(9))
    report = engine.index(f"{objects.address}/g")
    assert (report.added, report.passed_over) == (4, {".json": 1, HIDDEN: 1})
    assert [reason for _, reason in report.failures] == ["is not a picture in a known format"]
    assert members(engine) == {"b/0.png": "b", "b/1.png": "b", "0001.png": "7", f"{objects.address}/g/a.png": None}
    assert gets(objects, ".tar") == [f"/{objects.bucket}/g/a.tar"]  # once, whole
    report = engine.index()
    assert (report.unchanged, report.failed, gets(objects)) == (4, 0, [])
    assert len(engine.catalogue.scans.failures()) == 1
    for path in rows(engine):
        with open_file(path) as file:
            assert file.read() in [content for _, content in (*SHARD, ("", png(9)))]
    assert engine.remove(address) == 3
    assert engine.index().added == 3


def test_a_changed_tar_is_read_again(engine: Engine, objects: Objects) -> None:
    address = objects.put("a.tar", tar_of(*SHARD))
    engine.index(address)
    objects.put("a.tar", tar_of(*SHARD[1:3], ("4.png", png(4)), *SHARD[3:5]))
    report = engine.index()
    assert (report.embedded, report.missing) == (1, 2)  # one has moved, and its content is known
    assert sorted(members(engine)) == ["0001.png", "4.png", "b/0.png"]
    (hit,) = engine.query(blocks(4), top=1)
    assert hit.path.name == "4.png"
    assert hit.explanation is not None


def test_a_picture_taken_out_of_a_tar_comes_back(engine: Engine, objects: Objects) -> None:
    engine.index(objects.put("a.tar", tar_of(*SHARD)))
    assert engine.remove(next(path for path in rows(engine) if "0001.png" in path)) == 1
    report = engine.index()
    assert (report.added, report.unchanged) == (1, 2)


@pytest.mark.slow
def test_a_tar_that_was_not_read_to_its_end_is_read_again(
    engine: Engine, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = objects.put("a.tar", tar_of(*((f"{number:03}.png", png(number)) for number in range(80))))
    record = ScanRecords.record
    calls = []

    def fail_later(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        record(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(ScanRecords, "record", fail_later)
        with pytest.raises(KeyboardInterrupt):
            engine.index(address)
    assert engine.catalogue.scans.finished_archives(os.fsencode(address)) == {}
    report = engine.index()
    assert report.unchanged in (32, 48)  # a batch beside the one that failed may have been recorded
    assert report.embedded == 80 - report.unchanged
    assert list(engine.catalogue.scans.finished_archives(os.fsencode(address))) == [os.fsencode(address)]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [600, 3000])
def test_a_damaged_tar_keeps_its_records(engine: Engine, objects: Objects, cut: int) -> None:
    whole = tar_of(*((f"{number}.png", png(number)) for number in range(9)))
    address = objects.put("a.tar", whole)
    engine.index(address)
    objects.put("a.tar", whole[:cut])
    report = engine.index()
    assert report.missing == 0
    assert any("damaged or not a tar" in reason for _, reason in report.failures)
    objects.put("a.tar", whole)
    report = engine.index()
    assert (report.missing, report.failed, len(rows(engine))) == (0, 0, 9)


def test_a_local_tar_is_no_part_of_its_folder(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    folder.mkdir()
    (folder / "1.png").write_bytes(png(1))
    (folder / "a.tar").write_bytes(tar_of(*SHARD))
    report = engine.index(folder, folder / "a.tar")
    assert (report.added, report.passed_over) == (4, {".tar": 1, ".json": 1, HIDDEN: 1})
    assert engine.index().unchanged == 4
    (hit,) = engine.query(blocks(2), top=1)
    assert str(hit.path).startswith(f"tar:{folder}/a.tar/0001.png#")
    assert (hit.path.name, hit.label) == ("0001.png", "7")
    assert hit.explanation is not None
    assert engine.remove(folder / "a.tar") == 3
    assert engine.catalogue.scans.roots() == [os.fsencode(folder)]


# Lists


@pytest.mark.slow
def test_a_list_of_objects(engine: Engine, objects: Objects) -> None:
    objects.put("g/1.png", png(1))
    objects.put("g/2.png", png(2))
    objects.put("g/a.tar", tar_of(*SHARD))
    lines = (f"{objects.address}/g/1.png\tapples", "# a comment", "", "g/2.png\r", "g/a.tar", "g/nothing.png")
    address = objects.put("list.txt", "\n".join(lines).encode())
    report = engine.index(address)
    assert report.added == 5
    assert (f"{objects.address}/g/nothing.png", "does not exist") in report.failures
    assert sorted(rows(engine).values(), key=str) == ["7", "apples", "b", "b", "g"]
    assert engine.index().unchanged == 5
    objects.put("list.txt", lines[0].encode())
    report = engine.index()
    assert (report.unchanged, report.missing) == (1, 4)
    (hit,) = engine.query(png(1), top=1)
    assert hit.path == f"{objects.address}/g/1.png"
    assert engine.remove(address) == 5


_LOCAL = "is a path of this machine, which a list from elsewhere may not name"
_STORE = "is on an object store, which only a list on that store may name"
_PRIVATE = "is an address of this machine or its network, which a list from elsewhere may not name"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/etc/hostname.png", _LOCAL),
        ("file:///etc/hostname.png", _LOCAL),
        ("local:///etc/x.png", _LOCAL),
        ("tar:/etc/x.tar", _LOCAL),
        ("gs://bucket/x.png", _STORE),
        ("memory://x.png", _STORE),
        ("http://127.0.0.1/x.png", _PRIVATE),
        ("http://169.254.169.254/latest/x.png", _PRIVATE),
        ("http://127.1/x.png", _PRIVATE),
    ],
)
def test_a_remote_list_names_no_private_files(
    engine: Engine, objects: Objects, line: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = objects.put("list.txt", line.encode())
    monkeypatch.setattr("retrieval.sources.picture_list._stat_line", lambda line: pytest.fail(f"{line} was looked up"))
    report = engine.index(address)
    assert report.added == 0
    assert [reason for _, reason in report.failures] == [reason]


def test_a_bad_line_of_a_list_fails_itself(
    engine: Engine, tmp_path: Path, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = objects.put("1.png", png(1))
    lines = [
        (good.encode() + b"\tcaf\xe9", None),
        (b"caf\xe9/x.png", "does not exist"),
        (b"http://[bad/x.png", "is no address"),
        (b"foo://b/x.png", "is not a supported kind of address"),
        (b"s3://Impossible_Bucket!/x.png", 'Invalid bucket name "Impossible_Bucket!"'),
        (b"https://ada:SECRET@pictures.example/x.png", "has a password"),
        (b"https://pictures.example/x.png?X-Amz-Signature=SECRET", "is signed"),
        (b"http://127.0.0.1:9\xff/x.png", "is no address"),
        (b"http://caf\xe9/x.png", "idna"),
        (b"http://a..b/x.png", "idna"),
    ]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + b"\n".join(line for line, _ in lines))
    monkeypatch.setattr("retrieval.sources.object_store.time.sleep", lambda seconds: pytest.fail("one was retried"))
    report = engine.index(tmp_path / "list.txt")
    assert (report.added, report.failed) == (1, len(lines) - 1)
    assert sorted(rows(engine).values(), key=str) == ["caf\ufffd"]
    reasons = sorted(reason for _, reason in report.failures)
    for _, expected in lines:
        assert expected is None or any(expected in reason for reason in reasons), (expected, reasons)
    assert "SECRET" not in str(report)
    engine.catalogue.close()
    assert b"SECRET" not in b"".join(file.read_bytes() for file in (tmp_path / "store").iterdir() if file.is_file())


def test_a_list_names_files_relative_to_it(engine: Engine, objects: Objects) -> None:
    for number, key in enumerate(("g/1.png", "g/l/2.png", "g/x.tar.png", "g/x.tar-1.png")):
        objects.put(key, png(number))
    objects.put("g/x.tar", tar_of(*SHARD))
    lines = b"../1.png\n./2.png\n../x.tar\n../x.tar.png\n../x.tar-1.png"
    gallery = objects.put("g/l/list.txt", lines)
    assert engine.index(gallery).added == 7
    objects.put("g/x.tar", tar_of(*SHARD[:-1]))  # another version
    report = engine.index()
    assert (report.missing, len(rows(engine))) == (0, 7)


def test_a_picture_is_no_gallery(engine: Engine, objects: Objects) -> None:
    with pytest.raises(GalleryError, match="is a file: give the folder that holds the pictures"):
        engine.index(objects.put("1.png", png(1)))
    assert engine.catalogue.scans.roots() == []


@pytest.mark.slow
def test_a_link_to_a_tar_is_a_gallery(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(tar_of(*SHARD))
    (tmp_path / "a.tar").symlink_to("blob")
    assert engine.index(tmp_path / "a.tar").added == 3
    (hit,) = engine.query(blocks(2), top=1)
    assert hit.explanation is not None
    assert engine.remove(f"tar:{tmp_path}/a.tar/0001.png") == 1
    assert engine.remove(f"{tmp_path}/a.tar") == 2
    (tmp_path / "0001.tar").write_bytes(tar_of(*SHARD))
    (tmp_path / "latest").symlink_to("0001.tar")
    assert engine.index(tmp_path / "latest").added == 3
    assert engine.catalogue.scans.roots() == [os.fsencode(f"tar:{tmp_path}/0001.tar")]


def test_a_member_of_a_tar_is_queried_by_the_name_that_is_shown(
    engine: Engine, objects: Objects, tmp_path: Path
) -> None:
    (tmp_path / "b.tar").write_bytes(tar_of(("c/9.png", png(9))))
    address = objects.put("a.tar", tar_of(*SHARD))
    engine.index(address, tmp_path / "b.tar")
    for name, content in ((f"{address}/0001.png", png(2)), (f"{tmp_path}/b.tar/c/9.png", png(9))):
        (hit,) = engine.query(_fetch_source(engine.catalogue, name), top=1)
        assert (hit.path.name, hit.similarity > 0.99) == (name.rpartition("/")[2], True)
        assert _fetch_source(engine.catalogue, name) == content
    assert _fetch_source(engine.catalogue, f"{address}/nothing.png") == f"{address}/nothing.png"


def test_a_member_of_a_tar_is_removed_by_the_name_that_is_shown(engine: Engine, objects: Objects) -> None:
    address = objects.put("a.tar", tar_of(*SHARD))
    engine.index(address)
    assert engine.remove(f"{address}/0001.png") == 1
    assert engine.remove(f"{address}/nothing.png") == 0
    assert sorted(members(engine)) == ["b/0.png", "b/1.png"]


def test_entries_of_a_list_are_removed_by_the_name_that_is_shown(
    engine: Engine, tmp_path: Path, objects: Objects
) -> None:
    address = objects.put("g/1.png", png(8))
    (tmp_path / "2.png").write_bytes(png(9))
    (tmp_path / "a.tar").write_bytes(tar_of(*SHARD))
    (tmp_path / "list.txt").write_text(f"{address}\n2.png\na.tar\n")
    assert engine.index(tmp_path / "list.txt").added == 5
    assert engine.remove(address) == 1
    assert engine.remove(tmp_path / "2.png") == 1
    assert engine.remove(f"{tmp_path}/a.tar/0001.png") == 1
    assert engine.remove(tmp_path / "a") == 0
    assert sorted(members(engine)) == ["b/0.png", "b/1.png"]
    assert engine.remove(tmp_path / "a.tar") == 2


def test_a_local_list(engine: Engine, tmp_path: Path, objects: Objects) -> None:
    (tmp_path / "g").mkdir()
    names: Sequence[bytes] = (b"1.png", b"caf\xe9.png")
    for number, name in enumerate(names):
        Path(os.fsdecode(os.fsencode(tmp_path / "g") + b"/" + name)).write_bytes(png(number))
    (tmp_path / "a.tar").write_bytes(tar_of(*SHARD))
    address = objects.put("3.png", png(3))
    lines = (b"g/1.png", os.fsencode(tmp_path) + b"/g/caf\xe9.png\tcoffee", b"a.tar", os.fsencode(address))
    (tmp_path / "list.txt").write_bytes(b"\n".join(lines))
    report = engine.index(tmp_path / "list.txt")
    assert report.added == 6
    assert sorted(map(str, rows(engine).values())) == ["7", "None", "b", "b", "coffee", "g"]
    assert engine.index().unchanged == 6
    assert {hit.path for hit in engine.query(blocks(0), top=2, collapse=False)} == {
        tmp_path / "g" / "1.png",
        next(path for path in map(parse_location, map(os.fsencode, rows(engine))) if path.name == "0.png"),
    }


@pytest.mark.slow
def test_two_lists_may_name_one_picture(engine: Engine, objects: Objects) -> None:
    objects.put("1.png", png(1))
    lists = [objects.put(f"{name}.txt", b"1.png") for name in "ab"]
    assert engine.index(*lists).added == 2
    assert engine.index().unchanged == 2
    assert engine.remove(lists[0]) == 1
    assert engine.index().unchanged == 1


@pytest.mark.slow
def test_hits_are_fetched_in_parallel(engine: Engine, objects: Objects) -> None:
    for number in range(8):
        objects.put(f"g/{number}.png", png(number))
    engine.index(f"{objects.address}/g")
    together = threading.Barrier(4)

    def fault(method: str, path: str) -> None:
        if method == "HEAD":  # precedes the fetch of a picture
            together.wait(10)

    objects.fault = fault
    hits = engine.query(png(0), top=8)
    assert not together.broken
    assert all(hit.explanation for hit in hits)
    assert hits[0].path == f"{objects.address}/g/0.png"


def test_a_hit_that_cannot_be_fetched_says_why(engine: Engine, objects: Objects) -> None:
    for number in range(3):
        objects.put(f"g/{number}.png", png(number))
    engine.index(f"{objects.address}/g")
    objects.delete("g/1.png")
    objects.put("g/2.png", b"no picture")
    notes = {hit.path: hit.note for hit in engine.query(png(0), top=3)}
    assert notes == {
        f"{objects.address}/g/0.png": None,
        f"{objects.address}/g/1.png": "cannot be explained: the file does not exist",
        f"{objects.address}/g/2.png": "cannot be explained: the file is not a picture in a known format",
    }


def test_a_line_whose_kind_of_address_cannot_be_used_fails_itself(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    monkeypatch.setattr("retrieval.sources.object_store.RETRY_SECONDS", 0)
    networked = {"http", "https", "s3", "s3a", "gs", "gcs", "hf", "ftp"}
    schemes = sorted({*fsspec.available_protocols(), "unknown", "x+y"} - networked)
    lines = [f"{scheme}://x/y.jpg" for scheme in schemes]
    lines += [
        "ftp://127.0.0.1:9/a.jpg",
        "zip://x.jpg::/etc/passwd",
        "tar:/etc/passwd",
        "tar:/none.tar",
        "simplecache::x",
    ]
    (tmp_path / "1.png").write_bytes(png(1))
    (tmp_path / "list.txt").write_text("\n".join([*lines, "1.png"]))
    report = engine.index(tmp_path / "list.txt")
    assert (report.added, report.failed) == (1, len(set(lines)))
    assert not [reason for _, reason in report.failures if "__init__" in reason or "\n" in reason]
    assert "Exception ignored" not in capfd.readouterr().err
