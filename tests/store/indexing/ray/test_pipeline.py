"""The pipeline on Ray without a cluster: lost work is repeated, or ends with a sentence."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import retrieval
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import FailedFile
from retrieval.common.errors import ClusterError, GalleryError, ModelError
from retrieval.model.preprocessing import PictureInfo
from retrieval.sources.entries import PictureFile
from retrieval.sources.gallery import resolve_gallery
from retrieval.store.indexing.pipeline import Batch
from retrieval.store.indexing.ray.messages import (
    BLOCK_SIZE,
    Block,
    BlockResult,
    Embedded,
    Failed,
    WorkerConfig,
    program_digest,
    split_blocks,
)
from retrieval.store.indexing.run import index_galleries
from tests.support.galleries import tar_of

ray = pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
from retrieval.store.indexing.ray import cluster, pipeline, worker, worker_pool  # noqa: E402
from retrieval.store.indexing.ray.cluster import WorkerPlan, cluster_connection, is_worker_loss, to_cluster_error  # noqa: E402
from retrieval.store.indexing.ray.pipeline import RayPipeline  # noqa: E402
from retrieval.store.indexing.ray.worker import Worker  # noqa: E402
from retrieval.store.indexing.ray.worker_pool import WorkerPool  # noqa: E402

_LOST = ray.exceptions.ActorDiedError()


def content(file: PictureFile) -> bytes:
    return file.path.rpartition(b"/")[2].ljust(32)


class FakeActor:
    """A worker in this process, which works when its results are taken; dead once a block has raised Ray's error."""

    _numbers = count()

    def __init__(self, run: Callable[[Block], BlockResult], is_dead: bool = False) -> None:
        self._run = run
        self.is_dead = is_dead
        self.process = SimpleNamespace(remote=lambda block: (next(self._numbers), partial(self._result, block)))

    def _result(self, block: Block) -> BlockResult:
        try:
            if self.is_dead:
                raise _LOST
            return self._run(block) if block.files else BlockResult("here")
        except ray.exceptions.RayError:
            self.is_dead = True
            raise


class LocalPool(WorkerPool):
    """Workers in this process that work in turn, as their results are waited for."""

    def __init__(self, run: Callable[[Block], BlockResult], are_dead: bool = False) -> None:
        self._device, self._limit, self._plan = "cpu", None, None
        self._workers = []
        self._run = run
        self._are_dead = are_dead
        self.started = 0

    def _start(self, plan: WorkerPlan) -> FakeActor:
        self.started += 1
        return FakeActor(self._run, self._are_dead)

    def _kill(self, actor: FakeActor) -> None:
        actor.is_dead = True


class Alone(RayPipeline):
    """Its workers are here: one dies over `killer`, and over the second block of `FILES` the first `losses` times."""

    def __init__(self, catalogue: Catalogue, killer: bytes = b"", losses: int = 0) -> None:
        super().__init__(catalogue, SimpleNamespace(fingerprint="f" * 64), "cpu", None)  # type: ignore[arg-type]
        self.pool = self._pool = LocalPool(self.run)
        self.killer = killer
        self.losses = losses
        self.sizes: list[int] = []

    def run(self, block: Block) -> BlockResult:
        contents = [content(file) for file in block.files]
        self.sizes.append(len(contents))
        if self.killer in contents:
            raise _LOST
        if self.losses and FILES[BLOCK_SIZE] in block.files:
            self.losses -= 1
            raise _LOST
        vector = np.ones(4, np.float16)
        return BlockResult("here", [Embedded(each, PictureInfo(1, 1), vector) for each in contents])

    def indexed(self, files: list[PictureFile]) -> list[bytes]:
        return [read.file.path for batch in self.batches(iter(files)) for read in batch.read]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "store", create=True)


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(refs: list[tuple[int, object]], num_returns: int, timeout: float) -> tuple[list[tuple[int, object]]]:
        return (sorted(refs, key=itemgetter(0))[:num_returns],)

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda ref: ref[1]())
    monkeypatch.setattr(worker_pool, "_PAUSE", 0.0)
    plan_for(1, monkeypatch)


def plan_for(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "plan_workers", lambda device, limit: WorkerPlan(workers, "cpu", 2))


FILES = [PictureFile(b"/gallery/%03d" % number, 1, 1) for number in range(4 * BLOCK_SIZE)]


def test_each_file_comes_once_though_workers_are_lost(catalogue: Catalogue) -> None:
    pipeline = Alone(catalogue, losses=2)
    assert sorted(pipeline.indexed(FILES)) == [file.path for file in FILES]
    assert pipeline.pool.started == 3


def test_the_other_workers_go_on_when_one_is_lost(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_for(2, monkeypatch)
    pipeline = Alone(catalogue, losses=1)
    assert sorted(pipeline.indexed(FILES)) == [file.path for file in FILES]
    assert pipeline.pool.started <= 3


def test_workers_are_kept_for_the_next_gallery(catalogue: Catalogue) -> None:
    pipeline = Alone(catalogue)
    assert [len(pipeline.indexed(FILES[:40])), len(pipeline.indexed(FILES[40:]))] == [40, len(FILES) - 40]
    assert pipeline.pool.started == 1


def test_a_content_that_a_worker_wrongly_takes_for_known_is_embedded(catalogue: Catalogue) -> None:
    class Mistaken(Alone):
        def run(self, block: Block) -> BlockResult:
            if block.ignore_known:
                return super().run(block)
            return BlockResult("here", [Embedded(content(file)) for file in block.files])

    pipeline = Mistaken(catalogue)
    assert sorted(pipeline.indexed(FILES)) == [file.path for file in FILES]


def test_a_picture_that_kills_each_worker_ends_the_run_by_its_name(catalogue: Catalogue) -> None:
    killer = FILES[BLOCK_SIZE + 5]
    pipeline = Alone(catalogue, killer=content(killer))
    indexed: list[bytes] = []
    batches = pipeline.batches(iter(FILES))
    with pytest.raises(ClusterError, match=r"^workers were lost 3 times over /gallery/037: take it out of the gallery"):
        indexed.extend(read.file.path for batch in batches for read in batch.read)
    assert sorted(indexed) == [file.path for file in FILES if file != killer]
    assert pipeline.sizes[-1] == 1


def test_workers_that_are_lost_with_nothing_done_end_the_run(catalogue: Catalogue) -> None:
    pipeline = Alone(catalogue)
    pipeline._pool = pool = LocalPool(pipeline.run, are_dead=True)
    with pytest.raises(ClusterError, match=r"^workers were lost 3 times in a row with nothing done"):
        pipeline.indexed(FILES)
    assert (pool.started, pipeline.sizes) == (3, [])


def test_a_block_that_is_under_way_whenever_a_machine_goes_is_not_blamed(catalogue: Catalogue) -> None:
    """Twice with others, and twice more while a file of it is alone."""
    pipeline = Alone(catalogue, losses=4)
    assert sorted(pipeline.indexed(FILES)) == [file.path for file in FILES]
    assert (pipeline.losses, pipeline.pool.started) == (0, 5)


def test_no_tar_stays_open_for_the_files_of_a_chunk(catalogue: Catalogue, tmp_path: Path) -> None:
    class Looking(Alone):
        open = 0

        def _step(self) -> Iterator[Batch]:
            self.open = max(self.open, len(os.listdir("/proc/self/fd")))
            return super()._step()

    for number in range(60):
        (tmp_path / f"{number:02}.tar").write_bytes(tar_of((f"{number}.png", b"")))
    (tmp_path / "list.txt").write_text("\n".join(f"{number:02}.tar" for number in range(60)))
    looking = Looking(catalogue)
    before = len(os.listdir("/proc/self/fd"))
    assert index_galleries(catalogue, looking, "f" * 64, [resolve_gallery(tmp_path / "list.txt")]).added == 60
    assert 0 < looking.open < before + 10


def test_a_gallery_that_a_worker_cannot_see_is_no_failure_of_its_files(catalogue: Catalogue, tmp_path: Path) -> None:
    class Blind(Alone):
        def run(self, block: Block) -> BlockResult:
            return BlockResult("far", [Failed("does not exist", is_out_of_reach=True) for _ in block.files])

    here = tmp_path / "a.jpg"
    pipeline = Blind(catalogue)
    files = [PictureFile(bytes(here), 1, 1), PictureFile(bytes(tmp_path / "gone.jpg"), 1, 1)]
    assert [batch.failures for batch in pipeline.batches(iter(files))] == [
        [FailedFile(file.path, "does not exist") for file in files]
    ]
    here.write_bytes(b"here")
    with pytest.raises(ClusterError, match=f"^{here} cannot be read on far, but here it can: mount the gallery at"):
        pipeline.indexed(files)


def test_a_part_of_a_gallery_that_a_worker_cannot_see_ends_the_run(catalogue: Catalogue, tmp_path: Path) -> None:
    class HalfBlind(Alone):
        is_transient = False

        def run(self, block: Block) -> BlockResult:
            broken = [Failed("does not exist", None, True, self.is_transient) for _ in block.files[1:]]
            return BlockResult("far", [Embedded(b"0" * 32, PictureInfo(1, 1), np.ones(4, np.float16)), *broken])

    files = [PictureFile(bytes(tmp_path / name), 1, 1) for name in ("seen.jpg", "gone.jpg", "unseen.jpg")]
    (tmp_path / "unseen.jpg").write_bytes(b"here")
    with pytest.raises(ClusterError, match=r"unseen\.jpg cannot be read on far, but here it can: mount the gallery"):
        HalfBlind(catalogue).indexed(files)
    pipeline = HalfBlind(catalogue)
    pipeline.is_transient = True  # a disk that failed there for a moment is no such thing
    assert pipeline.indexed(files) == [files[0].path]


def test_an_address_that_a_worker_cannot_open_is_a_matter_of_credentials(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[PictureFile] = []

    def can_open(file: PictureFile) -> bool:
        tried.append(file)
        return file.path.endswith(b"/0.jpg") and len(tried) > 4

    monkeypatch.setattr(pipeline, "_can_open", can_open)
    files = [PictureFile(b"s3://bucket/%d.jpg" % number, 1, 1, "v") for number in range(9)]
    block = Block(files)
    refused = BlockResult("far", [Failed("Forbidden", is_out_of_reach=True) for _ in files])
    pipeline._check_result(refused, block)
    assert tried == files[:4]
    with pytest.raises(ClusterError, match=r"^s3://bucket/0.jpg cannot .* same credentials, and a way there$"):
        pipeline._check_result(refused, block)


def test_blocks_are_bounded_by_the_bytes_that_a_worker_holds() -> None:
    local = [PictureFile(b"/gallery/%d.jpg" % number, 20_000_000, 1) for number in range(40)]
    assert [len(some) for some in split_blocks(local)] == [32, 8]
    remote = [found._replace(path=b"s3://b/%d.jpg" % place, version="v") for place, found in enumerate(local)]
    assert [len(some) for some in split_blocks(remote)] == [3] * 13 + [1]
    assert [len(some) for some in split_blocks(found._replace(size=0) for found in remote)] == [16, 16, 8]
    assert [len(some) for some in split_blocks(found._replace(size=10**9) for found in remote[:2])] == [1, 1]


def test_a_cluster_that_cannot_be_started_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**how: object) -> None:
        raise RuntimeError("no room\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    sentence = r"^no Ray cluster can be started on this machine \(no room\): see that"
    with pytest.raises(ClusterError, match=sentence), cluster_connection():
        pass


def test_settings_for_ray_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(cluster, "_connect", lambda address: None)
    said, level = ray._private.worker.print_to_stdstream, logging.getLogger("ray").level
    with cluster_connection():
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert ray._private.worker.print_to_stdstream is not said
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ
    assert ray._private.worker.print_to_stdstream is said
    assert logging.getLogger("ray").level == level


def test_a_ray_that_lacks_its_private_function_is_used_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_connect", lambda address: None)
    monkeypatch.delattr(ray._private.worker, "print_to_stdstream")
    with cluster_connection():
        pass


class HereAlone(Worker):
    """A worker without a cluster: it refuses, and reads, as one would."""

    def __init__(self, size: int = 8) -> None:
        self._refusal = None
        self._known = np.empty(0, np.uint64)
        self._size = size
        self._readers = ThreadPoolExecutor(2)


def test_whatever_a_worker_lacks_is_a_refusal_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(found: PictureFile) -> None:
        raise GalleryError("s3:// needs a package that is not installed: pip install '.[s3]'")

    monkeypatch.setattr(worker, "open_and_hash", lacking)
    answer = HereAlone().process(Block([PictureFile(b"/a.jpg", 1, 1)]))
    name = socket.gethostname()
    assert answer.refusal == f"a worker on {name} cannot work: " + (
        "s3:// needs a package that is not installed: pip install '.[s3]'"
    )
    monkeypatch.setattr(HereAlone, "_prepare", lambda *some: [])
    monkeypatch.setattr(HereAlone, "_embed", lambda *some: model_error())
    assert HereAlone().process(Block([])).refusal == f"a worker on {name} cannot work: no memory"


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
        def run(self, block: Block) -> BlockResult:
            return BlockResult("far", refusal="a worker on far cannot work")

    with pytest.raises(ClusterError, match=r"^a worker on far cannot work$"):
        Refusing(catalogue).indexed(FILES)


def test_what_ray_ends_with_is_explained() -> None:
    assert is_worker_loss(_LOST)
    lacking = ray.exceptions.RaySystemError("Traceback\nModuleNotFoundError: No module named 'retrieval'\n")
    assert not is_worker_loss(lacking)
    assert "lacks this program (ModuleNotFoundError: No module named 'retrieval'): install" in str(
        to_cluster_error(lacking)
    )
    assert not is_worker_loss(ValueError("x"))


@pytest.mark.parametrize(
    ("room", "device", "expected"),
    [
        ([(2, 0), (5, 0), (0, 0)], "auto", WorkerPlan(3, "cpu", 2)),
        ([(1, 0), (1, 0)], "auto", WorkerPlan(2, "cpu", 1)),
        ([(16, 0), (32, 4), (8, 1)], "auto", WorkerPlan(5, "cuda", 8, 1)),
        ([(16, 0), (6, 4)], "cuda", WorkerPlan(4, "cuda", 1, 1)),
        ([(16, 4)], "cpu", WorkerPlan(8, "cpu", 2)),
        ([], "auto", WorkerPlan(0, "cpu", 1)),
    ],
)
def test_as_many_workers_as_there_is_room_for(room: list[tuple[int, int]], device: str, expected: WorkerPlan) -> None:
    assert cluster._plan_for(room, device) == expected


def test_a_gpu_that_is_not_there_is_missed() -> None:
    with pytest.raises(ModelError, match=r"^the Ray cluster has no GPU: leave --device out"):
        cluster._plan_for([(8, 0)], "cuda")
