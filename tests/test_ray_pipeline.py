"""The pipeline on Ray without a cluster: what is lost is done again, and what cannot be is told."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from indexes.catalogue import Catalogue
from indexes.records import Failed
from retrieval.blocks import BLOCK, Answer, Block, Broken, Done
from retrieval.claims import Claims
from retrieval.errors import ClusterError, ModelError
from retrieval.pictures import PictureInfo
from retrieval.walk import Found

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'retrieve-explain[ray]'")
from retrieval import ray_cluster, ray_pipeline  # noqa: E402
from retrieval.ray_cluster import Crew, explained, is_loss  # noqa: E402
from retrieval.ray_pipeline import RayPipeline  # noqa: E402

_LOST = ray.exceptions.ActorDiedError()


def content(found: Found) -> bytes:
    return found.path.rpartition(b"/")[2].ljust(32)


class Alone(RayPipeline):
    """Its one worker is here: it dies over `killer`, and of other blocks at first `losses` times."""

    def __init__(self, catalogue: Catalogue, killer: bytes = b"", losses: int = 0) -> None:
        self._claims = Claims(catalogue, "f" * 64)
        self._numbers = 0
        self._failure = None
        self.killer = killer
        self.losses = losses
        self.sizes: list[int] = []

    def _answers(self, blocks: Sequence[Block]) -> Iterator[Answer]:
        for block in blocks:
            files = block.files
            self.sizes.append(len(files))
            contents = [content(found) for found in files]
            wanted = self._claims.ask(block.number, contents)
            if self.killer in contents or (self.losses and block.number == 1):
                self.losses -= 1
                raise _LOST
            vector = np.ones(4, np.float16)
            seen = zip(contents, wanted, strict=True)
            yield Answer(
                block.number,
                "here",
                [Done(each, PictureInfo(1, 1), vector) if is_mine else Done(each) for each, is_mine in seen],
            )

    def _asked_by(self, loss: BaseException) -> set[int]:
        return set()

    def brought(self, files: list[Found]) -> list[bytes]:
        return [read.found.path for batch in self._all_done(files) for read in batch.read]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pipeline, "_PAUSE", 0.0)


FILES = [Found(b"/gallery/%03d" % number, 1, 1) for number in range(4 * BLOCK)]


def test_each_file_comes_once_though_workers_are_lost(catalogue: Catalogue) -> None:
    pipeline = Alone(catalogue, losses=2)
    assert sorted(pipeline.brought(FILES)) == [found.path for found in FILES]


def test_a_picture_that_kills_each_worker_ends_the_run_by_its_name(catalogue: Catalogue) -> None:
    killer = FILES[BLOCK + 5]
    pipeline = Alone(catalogue, killer=content(killer))
    brought: list[bytes] = []
    batches = pipeline._all_done(FILES)
    with pytest.raises(ClusterError, match=r"^workers were lost 3 times over /gallery/037: take it out of the gallery"):
        brought.extend(read.found.path for batch in batches for read in batch.read)
    assert set(brought) == {found.path for found in FILES} - {found.path for found in FILES[BLOCK + 5 : 2 * BLOCK]}
    assert pipeline.sizes[-1] == 1


def test_workers_that_are_lost_with_nothing_done_end_the_run(catalogue: Catalogue) -> None:
    class Hopeless(Alone):
        def _answers(self, blocks: Sequence[Block]) -> Iterator[Answer]:
            self.sizes.append(len(blocks))
            raise _LOST
            yield

    pipeline = Hopeless(catalogue)
    with pytest.raises(ClusterError, match=r"^workers were lost 3 times in a row with nothing done"):
        pipeline.brought(FILES)
    assert pipeline.sizes == [4, 4, 4]


def test_a_gallery_that_a_worker_cannot_see_is_no_failure_of_its_files(catalogue: Catalogue, tmp_path: Path) -> None:
    class Blind(Alone):
        def _answers(self, blocks: Sequence[Block]) -> Iterator[Answer]:
            for block in blocks:
                yield Answer(block.number, "far", [Broken("does not exist", is_out_of_reach=True) for _ in block.files])

    here = tmp_path / "a.jpg"
    pipeline = Blind(catalogue)
    files = [Found(bytes(here), 1, 1), Found(bytes(tmp_path / "gone.jpg"), 1, 1)]
    assert [batch.failures for batch in pipeline._all_done(files)] == [
        [Failed(found.path, "does not exist") for found in files]
    ]
    here.write_bytes(b"here")
    with pytest.raises(ClusterError, match=f"^{here} cannot be read on far, but here it can: mount the gallery at"):
        pipeline.brought(files)


def test_a_gallery_that_a_worker_sees_in_part_is_no_failure_of_its_files(catalogue: Catalogue, tmp_path: Path) -> None:
    class Blind(Alone):
        def _answers(self, blocks: Sequence[Block]) -> Iterator[Answer]:
            for block in blocks:
                seen = [Done(content(found), PictureInfo(1, 1), np.ones(4, np.float16)) for found in block.files[1:]]
                yield Answer(block.number, "far", [Broken("does not exist", is_out_of_reach=True), *seen])

    (tmp_path / "a.jpg").write_bytes(b"here")
    files = [Found(bytes(tmp_path / name), 1, 1) for name in ("a.jpg", "b.jpg")]
    with pytest.raises(ClusterError, match="cannot be read on far, but here it can"):
        Blind(catalogue).brought(files)


def test_what_other_workers_had_begun_is_not_suspect(catalogue: Catalogue) -> None:
    """Each time another machine is taken away, while the same blocks are under way elsewhere."""

    class Spot(Alone):
        def _answers(self, blocks: Sequence[Block]) -> Iterator[Answer]:
            if self.losses:
                self.losses -= 1
                for block in blocks:
                    self._claims.ask(block.number, [content(found) for found in block.files])
                self.lost = blocks[0].number
                yield from super()._answers(blocks[-1:])
                raise _LOST
            yield from super()._answers(blocks)

        def _asked_by(self, loss: BaseException) -> set[int]:
            return {self.lost}

    files = [Found(b"/gallery/%04d" % number, 1, 1) for number in range(12 * BLOCK)]
    assert sorted(Spot(catalogue, losses=5).brought(files)) == [found.path for found in files]


def test_no_tar_stays_open_until_its_members_are_embedded(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tar:
        def read(self) -> bytes:
            return b""

    opened: weakref.WeakSet[Tar] = weakref.WeakSet()

    def members() -> Iterator[Found]:
        for found in FILES:
            tar = Tar()
            opened.add(tar)
            yield found._replace(content=tar.read)

    class Watching(Alone):
        _device, _workers = "cpu", 1

        def _answers(self, blocks: Sequence[Block]) -> Iterator[Answer]:
            gc.collect()
            assert len(opened) == 0
            yield from super()._answers(blocks)

    monkeypatch.setattr(ray_pipeline, "crew", lambda device, workers: Crew(1, "cpu", 1))
    brought = [read.found.path for batch in Watching(catalogue).batches(members()) for read in batch.read]
    assert sorted(brought) == [found.path for found in FILES]


def test_a_block_of_files_from_servers_is_as_small_as_they_are_large() -> None:
    def cut(path: bytes, size: int) -> list[int]:
        return [len(some) for some in ray_pipeline._cut([Found(path, size, 1)] * 50, BLOCK)]

    assert cut(b"/g/1.jpg", 2**30) == [BLOCK, 50 - BLOCK]
    assert cut(b"s3://b/1.jpg", 2**10) == [BLOCK, 50 - BLOCK]
    assert cut(b"s3://b/1.jpg", 2**23) == [8] * 6 + [2]
    assert cut(b"s3://b/1.jpg", 2**30) == [1] * 50


def test_a_clerk_that_fails_ends_the_run(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Alone(catalogue)
    killed: list[object] = []
    pipeline._desk = SimpleNamespace(questions=SimpleNamespace(remote=lambda replies: None))
    monkeypatch.setattr(ray, "get", lambda what: 1 / 0)
    monkeypatch.setattr(ray, "kill", killed.append)
    pipeline._answer_questions()
    assert killed == [pipeline._desk]
    with pytest.raises(ZeroDivisionError):
        pipeline._as_loss(_LOST)


def test_a_refusal_ends_the_run(catalogue: Catalogue) -> None:
    class Refusing(Alone):
        def _answers(self, blocks: Sequence[Block]) -> Iterator[Answer]:
            yield Answer(blocks[0].number, "far", refusal="a worker on far cannot work")

    with pytest.raises(ClusterError, match=r"^a worker on far cannot work$"):
        Refusing(catalogue).brought(FILES)


def test_what_ray_ends_with_is_explained() -> None:
    assert is_loss(_LOST)
    lacking = ray.exceptions.RaySystemError("Traceback\nModuleNotFoundError: No module named 'retrieval'\n")
    assert not is_loss(lacking)
    assert "lacks this program (ModuleNotFoundError: No module named 'retrieval'): install" in str(explained(lacking))
    assert not is_loss(ValueError("x"))


@pytest.mark.parametrize(
    ("room", "device", "wanted"),
    [
        ([(2, 0), (5, 0), (0, 0)], "auto", Crew(3, "cpu", 2)),
        ([(1, 0), (1, 0)], "auto", Crew(2, "cpu", 1)),
        ([(16, 0), (32, 4), (8, 1)], "auto", Crew(5, "cuda", 8, 1)),
        ([(16, 0), (6, 4)], "cuda", Crew(4, "cuda", 1, 1)),
        ([(16, 4)], "cpu", Crew(8, "cpu", 2)),
        ([], "auto", Crew(0, "cpu", 1)),
    ],
)
def test_as_many_workers_as_there_is_room_for(room: list[tuple[int, int]], device: str, wanted: Crew) -> None:
    assert ray_cluster._crew(room, device) == wanted


def test_a_gpu_that_is_not_there_is_missed() -> None:
    with pytest.raises(ModelError, match=r"^the Ray cluster has no GPU: leave --device out"):
        ray_cluster._crew([(8, 0)], "cuda")
