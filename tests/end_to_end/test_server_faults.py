"""Picture servers that fail, hang or are away: retried, reported in one sentence, and nothing lost or duplicated."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.common.errors import GalleryError, PictureError
from retrieval.engine import Engine
from retrieval.model.bundle import Bundle
from retrieval.sources import object_store
from retrieval.sources.files import bytes_at
from retrieval.sources.object_store import UnreachableError
from tests.support.galleries import png, rows, tar_of
from tests.support.generated import blocks
from tests.support.objects import Fault, Objects, Web, forget_servers

_PICTURES = 50  # a batch, and some


@pytest.fixture
def engine(tmp_path: Path, tiny_bundle: Bundle) -> Iterator[Engine]:
    engine = Engine.create(tmp_path / "store", str(tiny_bundle.folder))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 1.0)
    monkeypatch.setattr(object_store, "_BACKOFF", (0.05, 0.2))


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server that will answer have the time that this takes on a busy machine."""
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 60.0)


@pytest.fixture
def gallery(objects: Objects) -> str:
    for number in range(_PICTURES):
        objects.put(f"g/{number:02}.png", png(number))
    objects.requests.clear()
    return f"{objects.address}/g"


def every(nth: int, fault: str) -> Fault:
    """Each picture's, and each listing's, n-th first requests fail."""
    attempts: Counter[str] = Counter()

    def failing(method: str, path: str) -> str | None:
        attempts[path] += 1
        return fault if attempts[path] <= nth else None

    return failing


def of(fault: str, *endings: str) -> Fault:
    """Make every read of these files fail."""
    return lambda method, path: fault if path.partition("?")[0].endswith(endings) and method == "GET" else None


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("fault", ["500", "503", "429"])
def test_requests_that_fail_are_repeated(engine: Engine, objects: Objects, gallery: str, fault: str) -> None:
    objects.fault = every(2, fault)
    report = engine.index(gallery)
    assert (report.added, report.failed) == (_PICTURES, 0)
    assert len(rows(engine)) == _PICTURES


@pytest.mark.usefixtures("patience")
def test_requests_that_hang_are_repeated(
    engine: Engine, objects: Objects, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 0.3, "connect_timeout": 0.3}})
    monkeypatch.setattr(objects, "hang", 0.8)
    forget_servers()
    attempts: Counter[str] = Counter()

    def hanging(method: str, path: str) -> str | None:
        attempts[path] += 1
        return "hang" if path.endswith(("7.png", "g%2F")) and attempts[path] == 1 else None

    objects.fault = hanging
    report = engine.index(gallery)
    assert (report.added, report.failed) == (_PICTURES, 0)
    assert all(attempts[path] > 1 for path in attempts if path.endswith("7.png"))


def test_one_object_that_always_fails_fails_itself(engine: Engine, objects: Objects, gallery: str) -> None:
    objects.fault = of("500", "/07.png", "/40.png")
    report = engine.index(gallery)
    assert report.added == _PICTURES - 2
    assert [str(path) for path, _ in report.failures] == [f"{gallery}/07.png", f"{gallery}/40.png"]
    assert all("cannot be read: " in reason and "We failed" in reason for _, reason in report.failures)
    objects.fault = lambda method, path: None
    forget_servers()
    report = engine.index()
    assert (report.added, report.unchanged, report.failed) == (2, _PICTURES - 2, 0)


def test_a_server_that_goes_away_ends_the_run_and_the_next_goes_on(
    engine: Engine, objects: Objects, gallery: str
) -> None:
    read: list[str] = []

    def dying(method: str, path: str) -> str | None:
        if method == "GET" and path.endswith(".png"):
            read.append(path)
        return "500" if len(read) > 44 else None

    objects.fault = dying
    with pytest.raises(GalleryError, match=r"^s3://\S+ does not answer \(.*\): what was indexed is kept, and the same"):
        engine.index(gallery)
    kept = len(rows(engine))
    assert 0 < kept < _PICTURES
    assert engine.catalogue.scans.failures() == []
    objects.fault = lambda method, path: None
    forget_servers()
    report = engine.index()
    assert (report.added, report.unchanged, report.failed) == (_PICTURES - kept, kept, 0)
    assert len(rows(engine)) == _PICTURES


def test_a_server_that_is_away_marks_nothing_missing(engine: Engine, objects: Objects, gallery: str) -> None:
    engine.index(gallery)
    for fault in (lambda method, path: "500", lambda method, path: "503" if "list-type" in path else None):
        objects.fault = fault
        forget_servers()
        with pytest.raises(GalleryError, match=r"does not answer|cannot be read: We failed"):
            engine.index(gallery)
    assert len(rows(engine)) == _PICTURES


def test_a_folder_that_is_closed_keeps_its_pictures(engine: Engine, objects: Objects) -> None:
    for key in ("g/a/1.png", "g/b/2.png"):
        objects.put(key, png(int(key[4])))
    engine.index(f"{objects.address}/g")
    objects.fault = lambda method, path: "403" if "prefix=g%2Fa" in path or "prefix=g/a" in path else None
    report = engine.index()
    assert report.missing == 0
    assert [str(path) for path, _ in report.failures] == [f"{objects.address}/g/a"]
    assert len(rows(engine)) == 2


@pytest.mark.usefixtures("patience")
def test_a_query_waits_for_a_server(engine: Engine, objects: Objects, gallery: str) -> None:
    engine.index(gallery)
    objects.fault = every(2, "500")
    hits = engine.query(blocks(3), top=3)
    assert hits[0].path.name == "03.png"
    assert all(hit.explanation is not None and hit.note is None for hit in hits)


def test_a_query_is_answered_while_a_server_is_away(engine: Engine, objects: Objects, gallery: str) -> None:
    engine.index(gallery)
    objects.fault = lambda method, path: "500"
    hits = engine.query(blocks(3), top=8)
    assert hits[0].path.name == "03.png"
    said = f"cannot be explained: the file cannot be read: {objects.address} does not answer"
    assert all(hit.explanation is None and (hit.note or "").startswith(said) for hit in hits)
    count = len(objects.requests)
    engine.query(blocks(3), top=8)
    assert len(objects.requests) == count  # it is not waited for anew


def test_a_hit_that_was_deleted_says_so(engine: Engine, objects: Objects, gallery: str) -> None:
    engine.index(gallery)
    objects.delete("g/03.png")
    first, second = engine.query(blocks(3), top=2)
    assert (first.note, first.explanation) == ("cannot be explained: the file does not exist", None)
    assert second.explanation is not None


def test_a_tar_that_cannot_be_fetched_fails_itself(engine: Engine, objects: Objects) -> None:
    address = objects.put("g/a.tar", tar_of(("1.png", png(1))))
    objects.put("g/2.png", png(2))
    objects.fault = of("500", "a.tar")
    report = engine.index(f"{objects.address}/g")
    assert report.added == 1
    ((failed, reason),) = report.failures
    assert (failed, "cannot be read" in reason) == (address, True)
    objects.fault = lambda method, path: None
    forget_servers()
    assert engine.index().added == 1


def test_no_credentials(engine: Engine, objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    forget_servers()
    with pytest.raises(GalleryError, match=r"Unable to locate credentials"):
        engine.index(f"{objects.address}/g")


def test_too_large_an_object_is_not_fetched(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    address = objects.put("1.png", png(1))
    monkeypatch.setattr(object_store, "MOST_BYTES", 100)
    objects.requests.clear()
    with pytest.raises(PictureError, match=r"has .* GB, more than the"):
        bytes_at(address)
    assert [method for method, _ in objects.requests] == ["HEAD"]


# A web server


@pytest.fixture
def pages(web: Web) -> str:
    for number in range(6):
        (web.folder / "red shoes").mkdir(exist_ok=True)
        (web.folder / "red shoes" / f"{number} #?&.png").write_bytes(png(number))
    (web.folder / "a.tar").write_bytes(tar_of(("x/7.png", png(7)), ("x/8.png", png(8))))
    return web.address


def test_a_listing_of_a_web_server(engine: Engine, web: Web, pages: str) -> None:
    (web.folder / "index.md").write_text("x")
    report = engine.index(f"{pages}/")
    assert (report.added, report.failed) == (8, 0)
    assert sorted(map(str, rows(engine).values())) == ["red shoes"] * 6 + ["x"] * 2
    web.requests.clear()
    assert engine.index().unchanged == 8
    assert not [path for method, path in web.requests if method == "GET" and path.endswith((".png", ".tar"))]
    (hit,) = engine.query(blocks(7), top=1)  # of a server that sends whole files only
    assert (hit.path.name, hit.explanation is not None) == ("7.png", True)


def test_a_web_server_that_fails_is_no_web_server_without_pictures(engine: Engine, web: Web, pages: str) -> None:
    engine.index(pages)
    web.fault = lambda method, path: "500"
    with pytest.raises(GalleryError, match="does not answer"):
        engine.index(pages)
    forget_servers()
    web.fault = every(1, "503")
    assert engine.index(pages).unchanged == 8
    web.fault = lambda method, path: "500" if "/0%20" in path else None
    report = engine.index(pages)
    assert (report.missing, report.failed, report.unchanged) == (0, 1, 7)
    web.fault = lambda method, path: "404"
    with pytest.raises(GalleryError, match="does not exist, so nothing was marked missing"):
        engine.index(pages)
    assert len(rows(engine)) == 8
    web.fault = lambda method, path: None
    report = engine.index(pages)
    assert (report.added, report.unchanged, report.failed) == (0, 8, 0)
    assert engine.catalogue.scans.failures() == []


def test_a_web_server_that_is_not_there() -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    with pytest.raises(UnreachableError, match=r"cannot be read: http://127\.0\.0\.1:9 does not answer"):
        bytes_at("http://127.0.0.1:9/a.png")


def test_a_page_that_is_not_there(web: Web) -> None:
    with pytest.raises(PictureError, match="does not exist"):
        bytes_at(f"{web.address}/a.png")


def test_a_silent_server_holds_up_no_other(engine: Engine, tmp_path: Path, objects: Objects, web: Web) -> None:
    for number in range(3):
        objects.put(f"{number}.png", png(number))
        (web.folder / f"{number}.png").write_bytes(png(10 + number))
    lines = [f"{objects.address}/{number}.png" for number in range(3)]
    lines += [f"{web.address}/{number}.png" for number in range(3)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert engine.index(tmp_path / "list.txt").added == 6
    web.fault = lambda method, path: "503"
    report = engine.index()
    assert (report.unchanged, report.missing, report.failed, len(rows(engine))) == (3, 0, 3, 6)
    (tmp_path / "list.txt").write_text("\n".join(lines[3:]))
    with pytest.raises(GalleryError, match="does not answer"):
        engine.index()
    assert len(rows(engine)) == 6


def test_a_server_that_has_nothing_is_not_silent(engine: Engine, tmp_path: Path, web: Web) -> None:
    (tmp_path / "list.txt").write_text(f"{web.address}/none.png\nhttp://127.0.0.1:9/1.png\n")
    report = engine.index(tmp_path / "list.txt")
    assert sorted(reason.partition(":")[0] for _, reason in report.failures) == ["cannot be read", "does not exist"]
    (tmp_path / "list.txt").write_text("foo://b/1.png\nhttp://ada:secret@h/1.png\nhttp://127.0.0.1:9/1.png\n")
    with pytest.raises(GalleryError, match="does not answer"):
        engine.index()


def test_what_a_server_of_no_text_is_called_can_be_kept(engine: Engine, tmp_path: Path, web: Web) -> None:
    (web.folder / "1.png").write_bytes(png(1))
    lines = [f"{web.address}/1.png".encode(), b"http://127.0.0.1:9?token=SECRET\xff", b"gopher\xff://h/2.png"]
    (tmp_path / "list.txt").write_bytes(b"\n".join(lines))
    report = engine.index(tmp_path / "list.txt")
    assert (report.added, report.failed) == (1, 2)
    for _, reason in report.failures:
        reason.encode()
        assert "SECRET" not in reason


def test_a_new_picture_is_requested_once(engine: Engine, web: Web) -> None:
    (web.folder / "1.png").write_bytes(png(1))
    engine.index(web.address)
    assert [method for method, path in web.requests if path == "/1.png"] == ["HEAD", "GET"]


def test_a_server_that_hangs_is_given_up(
    engine: Engine, objects: Objects, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.config import conf

    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 0.3, "connect_timeout": 0.3}})
    monkeypatch.setattr(objects, "hang", 1.0)
    forget_servers()
    objects.fault = lambda method, path: "hang"
    with pytest.raises(GalleryError, match=r"^s3://\S+ does not answer \(.*\): what was indexed is kept"):
        engine.index(gallery)
    assert len(objects.requests) <= 12  # and not each call five times
    with pytest.raises(GalleryError, match=r"does not answer \((?!as it did not)"):
        engine.index(gallery)
