"""Tars as galleries: damaged and unusual ones, lists of tars, and shards."""

import errno
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.scans import ScanRecords
from retrieval.common.settings import MAX_MEGAPIXELS
from retrieval.engine import Engine
from retrieval.model.bundle import Bundle
from retrieval.model.inference import open_network
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import open_file
from retrieval.sources.location import CatalogueLocation, member_path
from retrieval.sources.tar import open_tar
from retrieval.store.indexing.pipeline import LocalPipeline
from retrieval.store.indexing.report import IndexReport
from retrieval.store.indexing.shards import Shard
from tests.support.galleries import png, rows
from tests.support.galleries import tar_of as tar_with

NAMES = [f"{number}.png" for number in (5, 3, 8, 0, 7, 1, 6, 2, 4)]
WHOLE = tar_with(*((name, png(number)) for number, name in enumerate(NAMES)))
STARTS = [member.offset for member in tarfile.open(fileobj=io.BytesIO(WHOLE))]  # noqa: SIM115


@pytest.fixture
def engine(tmp_path: Path, tiny_bundle: Bundle) -> Iterator[Engine]:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    yield engine
    engine.close()


def counts(report: IndexReport) -> tuple[int, int, int, int]:
    """Return how many pictures were added, unchanged, missing and failed."""
    return report.added, report.unchanged, report.missing, report.failed


def broken_header(start: int) -> bytes:
    """Return the tar with some bytes of a header overwritten."""
    return WHOLE[: start + 150] + b"\xa5" * 10 + WHOLE[start + 160 :]


@pytest.mark.parametrize(
    "damaged",
    [
        WHOLE[: STARTS[4]],
        WHOLE[: STARTS[4] + 100],
        WHOLE[: STARTS[4] + 600],
        broken_header(STARTS[4]),
        broken_header(STARTS[0]),
        WHOLE[:300],
        b"",
    ],
    ids=["between", "in a header", "in a picture", "a header", "the first header", "in the first header", "empty"],
)
def test_a_damaged_tar_loses_nothing(engine: Engine, tmp_path: Path, damaged: bytes) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(WHOLE)
    engine.index(tar)
    tar.write_bytes(damaged)
    report = engine.index()
    assert report.missing == 0
    assert [path for path, _ in report.failures] == [f"tar:{tar}"]
    assert "is damaged or not a tar" in report.failures[0][1]
    assert len(rows(engine)) == 9
    assert engine.catalogue.scans.finished_archives(os.fsencode(f"tar:{tar}")) == {}
    tar.write_bytes(WHOLE)
    assert engine.index().reused == 9  # another version with the same contents
    assert counts(engine.index()) == (0, 9, 0, 0)


def test_members_before_the_damage_are_found(engine: Engine, tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(WHOLE[: STARTS[4] + 600])
    report = engine.index(tar)
    assert (report.added, report.failed) == (4, 1)
    assert report.failures[0][1] == "is damaged or not a tar: a member lies beyond its end"


def test_a_tar_without_its_second_block_of_zeros_is_whole(engine: Engine, tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    end = STARTS[-1] + 1024
    tar.write_bytes(WHOLE[: end + 512])
    assert WHOLE[end:] == bytes(len(WHOLE) - end)
    assert counts(engine.index(tar)) == (9, 0, 0, 0)


def pax(name: str, **headers: str) -> bytes:
    """Return a tar of one picture with these extended headers."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo(name)
        member.size = len(png(0))
        member.pax_headers = headers
        tar.addfile(member, io.BytesIO(png(0)))
    return file.getvalue()


@pytest.mark.parametrize("mtime", ["inf", "nan", "1e300", "1e11", "-1e300", "-5"])
def test_a_member_of_any_time_is_a_picture(engine: Engine, tmp_path: Path, mtime: str) -> None:
    (tmp_path / "a.tar").write_bytes(pax("1.png", mtime=mtime))
    assert counts(engine.index(tmp_path / "a.tar")) == (1, 0, 0, 0)


def long_names(count: int) -> bytes:
    """Return headers of GNU tar that each announce a long name."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4
    return (header.tobuf(tarfile.GNU_FORMAT) + b"a.p\0".ljust(512, b"\0")) * count


def huge_header() -> bytes:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    return header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize("odd", [pax("1.png", size="-512"), long_names(3000), huge_header()])
def test_an_odd_tar_fails_itself(engine: Engine, tmp_path: Path, odd: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(odd)
    (tmp_path / "b.tar").write_bytes(WHOLE)
    report = engine.index(tmp_path / "a.tar", tmp_path / "b.tar")
    assert (report.added, report.failed) == (9, 1)
    assert "is damaged or not a tar" in report.failures[0][1]


def test_a_member_that_fails_because_of_the_disk_is_read_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(WHOLE)

    class FailingDisk(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() == STARTS[4] + 512:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with monkeypatch.context() as patch:
        patch.setattr("retrieval.sources.files.open", FailingDisk, raising=False)
        report = engine.index(tar)
    assert (counts(report), report.failures[0][1]) == ((8, 0, 0, 1), "cannot be read: Input/output error")
    assert counts(engine.index()) == (1, 8, 0, 0)


def test_a_tar_is_read_without_pread(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no `os.pread`."""
    tar = tmp_path / "a.tar"
    tar.write_bytes(WHOLE)
    monkeypatch.delattr(os, "pread")
    assert counts(engine.index(tar)) == (9, 0, 0, 0)
    (hit,) = engine.query(png(4), top=1)
    assert (hit.path.name, hit.similarity > 0.99) == (NAMES[4], True)


def test_a_copy_of_a_tar_is_closed_while_it_is_downloaded_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows opens no file a second time."""

    def fake_download(address: str, file: str, cancelled: Event) -> None:
        assert not any(os.path.samefile(file, f"/proc/self/fd/{number}") for number in open_files())
        Path(file).write_bytes(WHOLE)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("retrieval.sources.tar.download", fake_download)
    with open_tar("s3://bucket/a.tar", Event()) as file:
        assert file.read() == WHOLE
    assert list(tmp_path.iterdir()) == []


def open_files() -> list[int]:
    """Return the numbers of the open files of this process."""
    return [int(number) for number in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{number}")]


def test_a_member_that_was_too_large_is_read_with_a_higher_limit(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(WHOLE)
    monkeypatch.setenv("RETRIEVE_MAX_MEGAPIXELS", "0.000001")
    assert counts(engine.index(tar)) == (0, 0, 0, 9)
    monkeypatch.setenv("RETRIEVE_MAX_MEGAPIXELS", str(MAX_MEGAPIXELS))
    assert counts(engine.index()) == (9, 0, 0, 0)


def test_a_tar_with_a_broken_member_is_not_read_each_time(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(tar_with(("1.png", png(1)), ("2.png", b"no picture")))
    assert counts(engine.index(tar)) == (1, 0, 0, 1)
    monkeypatch.setattr("retrieval.sources.tar.tar_members", lambda *given: pytest.fail("the tar was read"))
    assert counts(engine.index()) == (0, 1, 0, 0)
    assert len(engine.catalogue.scans.failures()) == 1


def test_a_tar_that_changed_and_was_restored(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(WHOLE)
    before = tar.stat()
    engine.index(tar)
    tar.write_bytes(tar_with(*((f"new/{number}.png", png(100 + number)) for number in range(70))))
    with monkeypatch.context() as patch:
        patch.setattr(ScanRecords, "record", once(ScanRecords.record))
        with pytest.raises(KeyboardInterrupt):
            engine.index()
    assert len(rows(engine)) > 9
    tar.write_bytes(WHOLE)
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
    engine.index()
    assert len(rows(engine)) == 9


def once(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function, interrupted when it is called again."""
    calls = []

    def call(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        function(*arguments)

    return call


def test_contents_are_released_once_they_are_read(tmp_path: Path, tiny_bundle: Bundle) -> None:
    catalogue = Catalogue(tmp_path / "store", create=True)
    pipeline = LocalPipeline(catalogue, open_network(tiny_bundle, "cpu"), tiny_bundle.fingerprint, 32)
    members = [PictureFile(b"s3://b/%d.png" % number, 1, 1, "", "", partial(png, number)) for number in range(3)]
    read = [each for batch in pipeline.batches(iter(members)) for each in batch.read]
    assert [each.file.path for each in read] == [member.path for member in members]
    assert all(each.file.read_content is None for each in read)


# --- lists of tars, and shards


def list_of(folder: Path, *lines: str) -> Path:
    (folder / "list.txt").write_text("\n".join(lines))
    return folder / "list.txt"


@pytest.mark.slow
def test_the_only_tar_of_a_shard_becomes_missing(engine: Engine, tmp_path: Path) -> None:
    names = [f"{number}.tar" for number in range(6)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(tar_with(("1.png", png(number))))
    shards = [Shard(number, 20) for number in range(1, 21)]
    gallery = list_of(tmp_path, *names)
    for shard in shards:
        engine.index(gallery, shard=shard)
    assert len(rows(engine)) == 6
    list_of(tmp_path, *names[1:])
    reports = [engine.index(gallery, shard=shard) for shard in shards]
    assert sum(report.missing for report in reports) == 1
    assert [report.kept_roots for report in reports] == [()] * 20
    assert len(rows(engine)) == 5


@pytest.mark.slow
def test_a_tar_in_a_folder_named_like_a_tar(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "x.tar"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.tar").write_bytes(tar_with((f"d.tar/{number}.png", png(number))))
    gallery = list_of(tmp_path, *(f"x.tar/{number}.tar" for number in range(4)))
    shards = [engine.index(gallery, shard=Shard(number, 3)) for number in (1, 2, 3)]
    assert [sum(report.added for report in shards), len(rows(engine))] == [4, 4]
    for path, label in rows(engine).items():
        assert label == "d.tar"
        with open_file(path.partition("list.txt/")[2]) as file:
            assert file.read() in [png(number) for number in range(4)]
    (hit,) = engine.query(png(2), top=1)
    assert (hit.path.name, hit.explanation is not None) == ("2.png", True)


@pytest.mark.parametrize("tar", ["tar:/g/a.tar", "s3://b/x.tar/a.tar", "list:/l.txt/tar:/x.TAR/b.tar/c.tar"])
@pytest.mark.parametrize("name", [b"1.png", b"x.tar/1.png", b"x.tar/y.tar/\xff\xc3\xa4#1+2.png", b"1.png#3+4"])
def test_paths_of_members_are_parsed(tar: str, name: bytes) -> None:
    path = member_path(os.fsencode(tar), name, 512, 26)
    member = CatalogueLocation.parse(path)
    assert member.tar_path == os.fsencode(tar)
    assert (os.fsencode(member.name), member.offset, member.size) == (name, 512, 26)


def test_hidden_files_that_a_list_named_become_missing(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    for number in range(3):
        (tmp_path / ".cache" / f"{number}.png").write_bytes(png(number))
    gallery = list_of(tmp_path, *(f".cache/{number}.png" for number in range(4)))
    assert counts(engine.index(gallery)) == (3, 0, 0, 1)
    list_of(tmp_path, ".cache/1.png")
    assert counts(engine.index()) == (0, 1, 2, 0)
    assert engine.catalogue.scans.failures() == []


def test_a_label_changed_in_a_list_is_updated(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    (tmp_path / "2.png").write_bytes(png(2))
    gallery = list_of(tmp_path, "1.png\tcats", "2.png\tcats")
    engine.index(gallery)
    list_of(tmp_path, "1.png\tdogs", "2.png\tcats")
    report = engine.index()
    assert (report.reused, report.unchanged) == (1, 1)
    assert sorted(filter(None, rows(engine).values())) == ["cats", "dogs"]
    assert counts(engine.index()) == (0, 2, 0, 0)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../photos/a.png",
            "../../a.png",
            "/abs/a.png",
            "//a.png",
            "a/./b.png",
            "./a/b.png",
            "a/../b.png",
            "a//b.png",
        ),
        *("/../../etc/a.png", "..//a.png", "a/b/../../../c.png", "./../a.png", ".//./a.png"),
    ],
)
def test_a_member_whose_name_has_steps_is_a_picture(engine: Engine, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar").write_bytes(tar_with((name, png(1)), ("plain.png", png(2))))
    assert counts(engine.index(tmp_path / "a.tar")) == (2, 0, 0, 0)
    assert all("/../" not in path and "/./" not in path for path in rows(engine))
    assert counts(engine.index()) == (0, 2, 0, 0)


def test_links_in_a_tar_are_followed_inside_or_reported(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(7))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(png(1))
        tar.addfile(info, io.BytesIO(png(1)))
        for kind, name, target in (
            (tarfile.LNKTYPE, "again.png", "a.png"),
            (tarfile.LNKTYPE, "gone.png", "none.png"),
            (tarfile.SYMTYPE, "out.png", str(tmp_path / "secret.png")),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            tar.addfile(link)
    report = engine.index(tmp_path / "a.tar")
    assert counts(report) == (2, 0, 0, 2)
    assert {os.path.basename(str(path)).partition("#")[0] for path, _ in report.failures} == {"gone.png", "out.png"}
    assert {reason for _, reason in report.failures} == {"is a link in a tar, not a picture"}
