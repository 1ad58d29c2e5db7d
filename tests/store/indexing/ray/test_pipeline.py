"""The pipeline on Ray without a cluster: what is lost is done again, and what cannot be is told."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import retrieval
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile
from retrieval.common.errors import ClusterError, GalleryError, ModelError
from retrieval.common.progress import SILENT_STAGE
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.sources.gallery import resolve_gallery
from retrieval.store.indexing.pipeline import Batch
from retrieval.store.indexing.ray.deduplication import Deduplicator
from retrieval.store.indexing.ray.messages import (
    BLOCK_SIZE,
    Block,
    BlockResult,
    Embedded,
    Failed,
    WorkerConfig,
    pack,
    program_digest,
    split_blocks,
)
from retrieval.store.indexing.scan import Scan, Tally
from tests.support.galleries import tar_of

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'retrieve-explain[ray]'")
from retrieval.store.indexing.ray import cluster, pipeline, worker  # noqa: E402
from retrieval.store.indexing.ray.cluster import WorkerPlan, cluster_connection, is_worker_loss, to_cluster_error  # noqa: E402
from retrieval.store.indexing.ray.pipeline import RayPipeline  # noqa: E402
from retrieval.store.indexing.ray.worker import Worker  # noqa: E402

_LOST = ray.exceptions.ActorDiedError()


def content(found: PictureFile) -> bytes:
    return found.path.rpartition(b"/")[2].ljust(32)


class Alone(RayPipeline):
    """Its one worker is here: it dies over `killer`, and of other blocks at first `losses` times."""

    def __init__(self, catalogue: Catalogue, killer: bytes = b"", losses: int = 0) -> None:
        self._claims = Deduplicator(catalogue, "f" * 64)
        self._numbers = 0
        self._failure = None
        self._device, self._workers = "cpu", None
        self.killer = killer
        self.losses = losses
        self.sizes: list[int] = []

    def _run_blocks(self, blocks: Sequence[Block], is_alone: bool) -> Iterator[BlockResult]:
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
            yield BlockResult(
                block.number,
                "here",
                [Embedded(each, PictureInfo(1, 1), vector) if is_mine else Embedded(each) for each, is_mine in seen],
            )

    def brought(self, files: list[PictureFile]) -> list[bytes]:
        return [read.file.path for batch in self._process_files(files) for read in batch.read]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_PAUSE", 0.0)


FILES = [PictureFile(b"/gallery/%03d" % number, 1, 1) for number in range(4 * BLOCK_SIZE)]


def test_each_file_comes_once_though_workers_are_lost(catalogue: Catalogue) -> None:
    pipeline = Alone(catalogue, losses=2)
    assert sorted(pipeline.brought(FILES)) == [found.path for found in FILES]


def test_a_picture_that_kills_each_worker_ends_the_run_by_its_name(catalogue: Catalogue) -> None:
    killer = FILES[BLOCK_SIZE + 5]
    pipeline = Alone(catalogue, killer=content(killer))
    brought: list[bytes] = []
    batches = pipeline._process_files(FILES)
    with pytest.raises(ClusterError, match=r"^workers were lost 3 times over /gallery/037: take it out of the gallery"):
        brought.extend(read.file.path for batch in batches for read in batch.read)
    assert sorted(brought) == [found.path for found in FILES if found != killer]
    assert pipeline.sizes[-1] == 1


def test_workers_that_are_lost_with_nothing_done_end_the_run(catalogue: Catalogue) -> None:
    class Hopeless(Alone):
        def _run_blocks(self, blocks: Sequence[Block], is_alone: bool) -> Iterator[BlockResult]:
            self.sizes.append(len(blocks))
            raise _LOST
            yield

    pipeline = Hopeless(catalogue)
    with pytest.raises(ClusterError, match=r"^workers were lost 3 times in a row with nothing done"):
        pipeline.brought(FILES)
    assert pipeline.sizes == [4, 4, 4]


def test_a_block_that_is_under_way_whenever_a_machine_goes_is_not_blamed(catalogue: Catalogue) -> None:
    """Each time another worker has brought a block, and is lost; and once more while this one is alone."""

    class Spot(Alone):
        def _run_blocks(self, blocks: Sequence[Block], is_alone: bool) -> Iterator[BlockResult]:
            if self.losses and not is_alone and len(blocks) > 1:
                self._claims.ask(blocks[-1].number, [content(found) for found in blocks[-1].files])
                yield from super()._run_blocks(blocks[:1], is_alone)
                self.losses -= 1
                raise _LOST
            if self.losses and is_alone:
                self._claims.ask(blocks[0].number, [content(found) for found in blocks[0].files])
                self.losses -= 1
                raise _LOST
            yield from super()._run_blocks(blocks, is_alone)

        def _blocks_to_retry(self, left: dict[int, Block], is_alone: bool) -> tuple[list[Block], bool]:
            self.sizes.append(0)
            return super()._blocks_to_retry(left, is_alone)

    files = [PictureFile(b"/gallery/%03d" % number, 1, 1) for number in range(12 * BLOCK_SIZE)]
    assert sorted(Spot(catalogue, losses=4).brought(files)) == [found.path for found in files]


def test_no_tar_stays_open_for_the_files_of_a_portion(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "plan_workers", lambda device, workers: WorkerPlan(1, "cpu", 2))

    class Looking(Alone):
        open = 0

        def _process_files(self, files: list[PictureFile]) -> Generator[Batch, None, None]:
            self.open = max(self.open, len(os.listdir("/proc/self/fd")))
            return super()._process_files(files)

    for number in range(60):
        (tmp_path / f"{number:02}.tar").write_bytes(tar_of((f"{number}.png", b"")))
    (tmp_path / "list.txt").write_text("\n".join(f"{number:02}.tar" for number in range(60)))
    looking = Looking(catalogue)
    before = len(os.listdir("/proc/self/fd"))
    tally = Tally()
    Scan(catalogue, looking, "f" * 64, resolve_gallery(tmp_path / "list.txt"), tally, SILENT_STAGE).run()
    assert tally.added == 60
    assert looking.open - before < 10


def test_a_gallery_that_a_worker_cannot_see_is_no_failure_of_its_files(catalogue: Catalogue, tmp_path: Path) -> None:
    class Blind(Alone):
        def _run_blocks(self, blocks: Sequence[Block], is_alone: bool) -> Iterator[BlockResult]:
            for block in blocks:
                yield BlockResult(
                    block.number, "far", [Failed("does not exist", is_out_of_reach=True) for _ in block.files]
                )

    here = tmp_path / "a.jpg"
    pipeline = Blind(catalogue)
    files = [PictureFile(bytes(here), 1, 1), PictureFile(bytes(tmp_path / "gone.jpg"), 1, 1)]
    assert [batch.failures for batch in pipeline._process_files(files)] == [
        [FailedFile(found.path, "does not exist") for found in files]
    ]
    here.write_bytes(b"here")
    with pytest.raises(ClusterError, match=f"^{here} cannot be read on far, but here it can: mount the gallery at"):
        pipeline.brought(files)


def test_a_part_of_a_gallery_that_a_worker_cannot_see_ends_the_run(catalogue: Catalogue, tmp_path: Path) -> None:
    class HalfBlind(Alone):
        passes = False

        def _run_blocks(self, blocks: Sequence[Block], is_alone: bool) -> Iterator[BlockResult]:
            for block in blocks:
                broken = [Failed("does not exist", None, True, self.passes) for _ in block.files[1:]]
                yield BlockResult(
                    block.number, "far", [Embedded(b"0" * 32, PictureInfo(1, 1), np.ones(4, np.float16)), *broken]
                )

    files = [PictureFile(bytes(tmp_path / name), 1, 1) for name in ("seen.jpg", "gone.jpg", "unseen.jpg")]
    (tmp_path / "unseen.jpg").write_bytes(b"here")
    with pytest.raises(ClusterError, match=r"unseen\.jpg cannot be read on far, but here it can: mount the gallery"):
        HalfBlind(catalogue).brought(files)
    pipeline = HalfBlind(catalogue)
    pipeline.passes = True  # a disk that failed there for a moment is no such thing
    assert pipeline.brought(files) == [files[0].path]


def test_an_address_that_a_worker_cannot_open_is_a_matter_of_credentials(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[PictureFile] = []

    def is_in_reach(found: PictureFile) -> bool:
        asked.append(found)
        return found.path.endswith(b"/0.jpg") and len(asked) > 4

    monkeypatch.setattr(pipeline, "_can_open", is_in_reach)
    files = [PictureFile(b"s3://bucket/%d.jpg" % number, 1, 1, "v") for number in range(9)]
    block = Block(0, pack(files))
    refused = BlockResult(0, "far", [Failed("Forbidden", is_out_of_reach=True) for _ in files])
    pipeline._check_result(refused, block)
    assert asked == files[:4]
    with pytest.raises(ClusterError, match=r"^s3://bucket/0.jpg cannot .* same credentials, and a way there$"):
        pipeline._check_result(refused, block)


def test_blocks_are_bounded_by_the_bytes_that_a_worker_holds() -> None:
    local = [PictureFile(b"/gallery/%d.jpg" % number, 20_000_000, 1) for number in range(40)]
    assert [len(some) for some in split_blocks(local)] == [32, 8]
    remote = [found._replace(path=b"s3://b/%d.jpg" % place, version="v") for place, found in enumerate(local)]
    assert [len(some) for some in split_blocks(remote)] == [3] * 13 + [1]
    assert [len(some) for some in split_blocks(found._replace(size=0) for found in remote)] == [16, 16, 8]
    assert [len(some) for some in split_blocks(found._replace(size=10**9) for found in remote[:2])] == [1, 1]


def test_a_clerk_that_fails_in_any_way_ends_the_run(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, killed = Alone(catalogue), list[object]()
    monkeypatch.setattr(ray, "get", lambda question: [(0, [b"0"])])
    monkeypatch.setattr(ray, "kill", killed.append)
    pipeline._coordinator = SimpleNamespace(questions=SimpleNamespace(remote=lambda replies: None))
    monkeypatch.setattr(pipeline._deduplicator, "ask", lambda number, contents: {}[number])
    pipeline._serve_requests()
    assert killed == [pipeline._coordinator]
    with pytest.raises(KeyError):
        pipeline._require_loss(_LOST)


def test_a_cluster_that_cannot_be_started_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**how: object) -> None:
        raise RuntimeError("no room\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    told = r"^no Ray cluster can be started on this machine \(no room\): see that"
    with pytest.raises(ClusterError, match=told), cluster_connection():
        pass


def test_what_was_set_for_ray_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(cluster, "_connect", lambda address: None)
    said, level = ray._private.worker.print_to_stdstream, logging.getLogger("ray").level
    with cluster_connection():
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert ray._private.worker.print_to_stdstream is not said
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ
    assert ray._private.worker.print_to_stdstream is said
    assert logging.getLogger("ray").level == level


class HereAlone(Worker):
    """A worker without a cluster: it refuses, and reads, as one would."""

    def __init__(self, size: int = 8) -> None:
        self._refusal = None
        self._size = size
        self._readers = ThreadPoolExecutor(2)


def test_whatever_a_worker_lacks_is_a_refusal_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(found: PictureFile) -> None:
        raise GalleryError("s3:// needs a package that is not installed: pip install 'retrieve-explain[s3]'")

    monkeypatch.setattr(worker, "open_and_hash", lacking)
    answer = HereAlone()._process(7, pack([PictureFile(b"/a.jpg", 1, 1)]))
    name = socket.gethostname()
    assert answer.refusal == f"a worker on {name} cannot work: " + (
        "s3:// needs a package that is not installed: pip install 'retrieve-explain[s3]'"
    )
    monkeypatch.setattr(HereAlone, "_prepare", lambda *some: [])
    monkeypatch.setattr(HereAlone, "_embed", lambda *some: model_error())
    assert HereAlone()._process(7, pack([])).refusal == f"a worker on {name} cannot work: no memory"


def model_error() -> None:
    raise ModelError("no memory")


def test_other_libraries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    work = WorkerConfig("default", "", program_digest(), {"numpy": "0.1"}, "cpu", 1, "100")
    with pytest.raises(ModelError, match=r"^its numpy is \d.+ and the driver's 0\.1: install one version on every"):
        HereAlone()._open(vars(work))


def test_the_program_is_all_of_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("retrieval/blocks.py", "retrieval/serving/app.py", "indexes/catalogue.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(retrieval, "__file__", str(tmp_path / "retrieval" / "__init__.py"))
    digests = set()
    for name in ("retrieval/blocks.py", "retrieval/serving/app.py", "indexes/catalogue.py"):
        (tmp_path / name).write_text("2")
        digests.add(program_digest.__wrapped__())
    assert len(digests) == 3


def test_a_refusal_ends_the_run(catalogue: Catalogue) -> None:
    class Refusing(Alone):
        def _run_blocks(self, blocks: Sequence[Block], is_alone: bool) -> Iterator[BlockResult]:
            yield BlockResult(blocks[0].number, "far", refusal="a worker on far cannot work")

    with pytest.raises(ClusterError, match=r"^a worker on far cannot work$"):
        Refusing(catalogue).brought(FILES)


def test_what_ray_ends_with_is_explained() -> None:
    assert is_worker_loss(_LOST)
    lacking = ray.exceptions.RaySystemError("Traceback\nModuleNotFoundError: No module named 'retrieval'\n")
    assert not is_worker_loss(lacking)
    assert "lacks this program (ModuleNotFoundError: No module named 'retrieval'): install" in str(
        to_cluster_error(lacking)
    )
    assert not is_worker_loss(ValueError("x"))


@pytest.mark.parametrize(
    ("room", "device", "wanted"),
    [
        ([(2, 0), (5, 0), (0, 0)], "auto", WorkerPlan(3, "cpu", 2)),
        ([(1, 0), (1, 0)], "auto", WorkerPlan(2, "cpu", 1)),
        ([(16, 0), (32, 4), (8, 1)], "auto", WorkerPlan(5, "cuda", 8, 1)),
        ([(16, 0), (6, 4)], "cuda", WorkerPlan(4, "cuda", 1, 1)),
        ([(16, 4)], "cpu", WorkerPlan(8, "cpu", 2)),
        ([], "auto", WorkerPlan(0, "cpu", 1)),
    ],
)
def test_as_many_workers_as_there_is_room_for(room: list[tuple[int, int]], device: str, wanted: WorkerPlan) -> None:
    assert cluster._plan_for(room, device) == wanted


def test_a_gpu_that_is_not_there_is_missed() -> None:
    with pytest.raises(ModelError, match=r"^the Ray cluster has no GPU: leave --device out"):
        cluster._plan_for([(8, 0)], "cuda")
