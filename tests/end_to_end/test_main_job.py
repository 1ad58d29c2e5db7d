"""The main job with everything elsewhere: the index on Milvus, the catalogue on PostgreSQL, pictures on S3.

The same commands are given to a store in a folder, with a gallery of the same pictures on the disk. What they answer
must be the same, to the last digit, but for where the pictures lie.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval.engine import Engine
from tests.support.command import answer, retrieve_here
from tests.support.generated import blocks
from tests.support.milvus import need_milvus, serving
from tests.support.objects import Objects, bucket_of
from tests.support.odd_files import BAD, GOOD
from tests.support.postgres import Server
from tests.support.served import client_of

need_milvus()

CLASSES = ("apples", "boats", "cats")
_NO_KEYS = (b"no utf-8 \xff\xfe.jpg", b"new\nline.jpg")  # a key is UTF-8; moto finds none with a line break
NAMES = {name.decode(): make for name, make in GOOD.items() if name not in _NO_KEYS}
TOTAL = len(NAMES) + 19
_OWN = {"seconds", "store", "catalogue", "index", "index_at", "generation"}  # what differs in an answer by its nature


@dataclass
class Place:
    """A store and a gallery, both somewhere."""

    folder: Path
    gallery: str
    made_with: tuple[str, ...] = ()
    objects: Objects | None = None

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def put(self, name: str, content: bytes) -> None:
        """Write a picture of the gallery."""
        if self.objects is not None:
            self.objects.put(f"gallery/{name}", content)
            return
        file = self.folder / "gallery" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def delete(self, name: str) -> None:
        """Delete a picture of the gallery."""
        if self.objects is not None:
            self.objects.delete(f"gallery/{name}")
        else:
            (self.folder / "gallery" / name).unlink()

    def answer(self, command: str, *arguments: str | Path) -> Any:
        """Return a command's answer without values that differ between runs."""
        return self.plain(answer(command, *arguments, "--store", self.store))

    def plain(self, values: Any) -> Any:
        """Return an answer without seconds, with names in the gallery instead of paths."""
        written = json.dumps({key: value for key, value in values.items() if key not in _OWN})
        written = written.replace('"present": null', '"present": true')  # not looked up on a server
        plain = written.replace(json.dumps(self.gallery)[1:-1], "GALLERY").replace(str(self.folder), "FOLDER")
        return json.loads(plain)


@dataclass
class Both:
    """The same on this machine and elsewhere."""

    here: Place
    there: Place

    @property
    def each(self) -> tuple[Place, Place]:
        return self.here, self.there

    def answer(self, command: str, *arguments: str | Path) -> Any:
        """Return the answer of both to a command; it must be the same."""
        here, there = (
            place.answer(command, *(str(each).replace("GALLERY", place.gallery) for each in arguments))
            for place in self.each
        )
        assert here == there
        return here

    def put(self, name: str, content: bytes) -> None:
        for place in self.each:
            place.put(name, content)

    def delete(self, name: str) -> None:
        for place in self.each:
            place.delete(name)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, postgres: Server, s3: Objects) -> Iterator[Both]:
    """Both with the same pictures, which both have indexed."""
    folder = tmp_path_factory.mktemp("main-job")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PGPASSWORD", postgres.password)
        objects = stack.enter_context(bucket_of(s3))
        milvus = stack.enter_context(serving(folder / "milvus"))
        elsewhere = ("--catalogue", postgres.address(folder, password=False), "--index", milvus.address)
        here = Place(folder / "here", str(folder / "here" / "gallery"))
        there = Place(folder / "there", f"{objects.address}/gallery", elsewhere, objects)
        both = Both(here, there)
        for seed, (name, make) in enumerate(NAMES.items()):
            both.put(name, make(blocks(1000 + seed)))
        for broken, (content, _) in BAD.items():
            both.put(broken.decode(), content)
        for number, label in enumerate(CLASSES):
            for nth in range(6):
                both.put(f"{label}/{nth}.jpg", GOOD[b"plain.jpg"](blocks(100 * number + nth, 160, 100)))
        both.put("apples/again.jpg", GOOD[b"plain.jpg"](blocks(0, 160, 100)))
        for place in both.each:
            place.folder.mkdir(exist_ok=True)
        said = [each.answer("index", each.gallery, *each.made_with) for each in both.each]
        assert said[0] == said[1]
        assert said[0]["added"] == TOTAL
        assert said[0]["failed"] == len(BAD)
        yield both


@pytest.fixture
def query_picture(tmp_path: Path) -> Path:
    """Make a query picture that resembles one of the gallery."""
    Image.fromarray(blocks(102, 160, 100)).save(tmp_path / "query.jpg", quality=80)
    return tmp_path / "query.jpg"


def test_hits_and_their_heatmaps(both: Both, query_picture: Path, tmp_path: Path) -> None:
    seen, question = [], ("query", query_picture, "--top", "8", "--method", "ensemble")
    for number, place in enumerate(both.each):
        out = tmp_path / str(number)
        result = place.answer(*question, "--out", out, "--html", out.with_suffix(".html"))
        pictures = {file.name: file.read_bytes() for file in sorted(out.iterdir()) if file.name.startswith("hit")}
        seen.append((json.loads(json.dumps(result).replace(str(out), "OUT")), pictures))
        page = out.with_suffix(".html").read_text()
        assert page.count("<figure") >= 8
    assert seen[0] == seen[1]
    result, pictures = seen[0]
    assert len(result["hits"]) == 8
    assert (result["hits"][0]["path"], result["hits"][0]["label"]) == ("GALLERY/boats/2.jpg", "boats")
    assert len(pictures) == 8 * 8


@pytest.mark.parametrize(
    "restriction", [("--label", "cats"), ("--folder", "GALLERY/cats"), ("--min-similarity", "0.9"), ("--pool", "9")]
)
def test_hits_of_a_selection(both: Both, query_picture: Path, restriction: tuple[str, str]) -> None:
    result = both.answer("query", query_picture, "--no-explain", "--top", "7", *restriction)
    assert result["hits"]
    if restriction[1].endswith("cats"):
        assert {hit["label"] for hit in result["hits"]} == {"cats"}


def test_every_picture_finds_itself(both: Both, tmp_path: Path) -> None:
    """Each odd format too: a picture of the gallery, searched by its address, is its own first hit."""
    for place in both.each:
        engine = Engine.open(place.store)
        for name in NAMES:
            source = f"{place.gallery}/{name}"
            (first,) = engine.query(source, top=1, explain=False)
            assert (str(first.path), round(first.similarity, 4)) == (source, 1.0)
        engine.close()


def test_heatmaps_by_the_api(both: Both, query_picture: Path) -> None:
    engines = [Engine.open(place.store) for place in both.each]
    hits = [engine.query(query_picture, top=4) for engine in engines]
    for here, there in zip(*hits, strict=True):
        assert here.explanation is not None
        assert there.explanation is not None
        for side in ("query", "hit"):
            for kind in ("factual", "counterfactual"):
                maps = [getattr(getattr(hit.explanation, side), kind) for hit in (here, there)]
                np.testing.assert_array_equal(*maps)
    for engine in engines:
        engine.close()


def test_what_the_store_holds(both: Both) -> None:
    result = both.answer("status")
    assert result["galleries"] == [{"path": "GALLERY", "pictures": TOTAL, "missing": 0, "present": True}]
    assert {failure["path"]: failure["reason"] for failure in result["failures"]}[
        "GALLERY/zero bytes.jpg"
    ] == "is empty"


def test_copies_are_found(both: Both) -> None:
    result = both.answer("duplicates")
    groups = [sorted(member["path"] for member in group["pictures"]) for group in result["groups"]]
    assert ["GALLERY/apples/0.jpg", "GALLERY/apples/again.jpg"] in groups


def test_similarity_is_calibrated(both: Both, query_picture: Path) -> None:
    before = both.answer("query", query_picture, "--no-explain")
    both.answer("calibrate")
    result = both.answer("query", query_picture, "--no-explain")
    assert result["calibrated"]
    assert [hit["path"] for hit in result["hits"]] == [hit["path"] for hit in before["hits"]]
    both.answer("calibrate", "--reset")
    assert both.answer("query", query_picture, "--no-explain") == before


def test_the_page_is_served(both: Both, query_picture: Path) -> None:
    answers = []
    for place in both.each:
        with client_of(place.store) as client:
            upload = client.post("/api/uploads", content=query_picture.read_bytes()).json()["upload"]
            result = client.get("/api/query", params={"upload": upload, "top": 5}).json()
            first = result["hits"][0]["picture"]
            image = client.get(f"/{first['image']}")
            assert (image.status_code, image.headers["content-type"]) == (200, "image/jpeg")
            answers.append(([(hit["similarity"], hit["picture"]["name"]) for hit in result["hits"]], image.content))
    assert answers[0] == answers[1]


def found(both: Both, query_picture: Path) -> list[str]:
    return [hit["path"] for hit in both.answer("query", query_picture, "--no-explain", "--top", "60")["hits"]]


def test_only_changes_are_taken_in(both: Both, query_picture: Path) -> None:
    assert both.answer("index")["unchanged"] == TOTAL
    both.put("cats/0.jpg", GOOD[b"plain.jpg"](blocks(900, 160, 100)))  # another content
    both.put("cats/moved.jpg", GOOD[b"plain.jpg"](blocks(201, 160, 100)))
    both.delete("cats/1.jpg")
    result = both.answer("index")
    assert (result["added"], result["embedded"], result["reused"], result["missing"]) == (2, 1, 1, 1)
    assert "GALLERY/cats/1.jpg" not in found(both, query_picture)
    removed = both.answer("remove", "GALLERY/boats")
    assert removed["removed"] == {"GALLERY/boats": 6}
    assert not [path for path in found(both, query_picture) if "boats" in path]
    assert both.answer("index")["added"] == 6
    assert found(both, query_picture)[0] == "GALLERY/boats/2.jpg"


def test_mistakes_have_the_same_messages(both: Both) -> None:
    for command in ("query", "remove"):
        said = []
        for place in both.each:
            done = retrieve_here(command, f"{place.gallery}/nothing.jpg", "--store", place.store)
            assert done.returncode == 1
            said.append(done.stderr.decode().replace(place.gallery, "GALLERY"))
        assert said[0] == said[1]
