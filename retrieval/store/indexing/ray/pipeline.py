"""Files to descriptors on a Ray cluster: blocks stream through Ray Data's actors; what is lost is done again."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from threading import Thread

import ray
from ray.util.annotations import RayDeprecationWarning
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from indexes.catalogue.catalogue import Catalogue
from retrieval.common.errors import ClusterError, PictureError
from retrieval.common.settings import MAX_MEGAPIXELS
from retrieval.model.bundle import Bundle
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.files import open_picture
from retrieval.sources.location import CatalogueLocation, display_location, is_remote, parse_location
from retrieval.store.indexing.pipeline import Batch, failure_of
from retrieval.store.indexing.ray.chunks import chunks
from retrieval.store.indexing.ray.cluster import WorkerPlan, first_line, is_worker_loss, plan_workers, to_cluster_error
from retrieval.store.indexing.ray.coordinator import ClaimRequest, Coordinator
from retrieval.store.indexing.ray.deduplication import Deduplicator
from retrieval.store.indexing.ray.messages import (
    BLOCK_SIZE,
    Block,
    BlockResult,
    Failed,
    WorkerConfig,
    library_versions,
    pack,
    program_digest,
    split_blocks,
    unpack,
)
from retrieval.store.indexing.ray.worker import Worker

_PORTION = 20_000  # files of an execution for each worker: what starting the workers costs is then a small part
_LARGEST_PORTION = 400_000  # of them all: what the driver holds of them
_PARALLEL_BLOCKS = 3  # blocks of a worker: one is embedded, one decoded, one read
_AT_HAND = 8  # with those that wait there for their turn
_PAUSE = 1.0  # seconds after a loss, until Ray has the room again of the workers that were left
_MAX_LOSSES = 3  # of workers over one file alone, or in a row with nothing done
_MOST_DOUBTS = 2  # of workers that had a block or had others: after that it is done with nothing else under way
_MAX_REMOTE_CHECKS = 4  # files at addresses, of a block, that are asked for here too where a worker could not have them


class RayPipeline:
    """Workers read, hash, decode and embed; the store is here alone, and answers what is known already.

    For a process that is connected to a cluster. `workers` are at most so many; None: all that it has room for.
    """

    def __init__(self, catalogue: Catalogue, bundle: Bundle, device: str, workers: int | None) -> None:
        self._bundle = bundle
        self._device = device
        self._workers = workers
        self._deduplicator = Deduplicator(catalogue, bundle.fingerprint)
        self._numbers = 0
        self._failure: Exception | None = None
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here)(Coordinator)
        self._coordinator = actor.remote()
        self._clerk = Thread(target=self._serve_requests, name="clerk", daemon=True)
        self._clerk.start()

    def close(self) -> None:
        """Give back what it holds of the cluster."""
        ray.kill(self._coordinator)
        self._clerk.join()

    def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
        """All these files, a portion after the other; a broken one fails itself. Raises ClusterError."""
        size = min(_PORTION * plan_workers(self._device, self._workers).workers, _LARGEST_PORTION)
        for portion in chunks(map(_without_content, changed), size):
            failures = [failure_of(file) for file in portion if isinstance(file, Unreadable)]
            if failures:
                yield Batch(failures=failures)
            yield from self._process_files([file for file in portion if isinstance(file, PictureFile)])

    def _process_files(self, files: list[PictureFile]) -> Generator[Batch, None, None]:
        """These files, each once, however often workers are lost."""
        blocks = self._make_blocks(files)
        losses = 0
        while blocks:
            calm = [block for block in blocks if block.shared_losses < _MOST_DOUBTS]
            left = {block.number: block for block in blocks}
            loss: BaseException | None = None
            try:
                for answer in self._run_blocks(calm or blocks, is_alone=not calm):
                    block = left.pop(answer.number)
                    _check_result(answer, block)
                    yield self._deduplicator.complete(block, answer.files)
            except ray.exceptions.RayError as error:
                loss = self._require_loss(error)
            is_futile = loss is not None and len(left) == len(blocks)
            blocks, is_blamed = self._blocks_to_retry(left, is_alone=not calm)
            losses = losses + 1 if is_futile and not is_blamed else 0
            if loss and losses >= _MAX_LOSSES:
                raise ClusterError(
                    f"workers were lost {losses} times in a row with nothing done ({first_line(loss)}):"
                    " look at the cluster, and run the command again"
                ) from loss
            if loss:
                time.sleep(_PAUSE)

    def _require_loss(self, error: BaseException) -> BaseException:
        if self._failure is not None:
            raise self._failure from error
        if not is_worker_loss(error):
            raise to_cluster_error(error) from error
        return error

    def _blocks_to_retry(self, left: dict[int, Block], is_alone: bool) -> tuple[list[Block], bool]:
        """What has not come back, and whether a block is blamed: one that was alone under way as its worker was lost.

        Of those that several workers had, any may be why, or none: machines that come and go take blameless ones with
        them. Raises ClusterError where one file was blamed too often.
        """
        begun = [number for number in self._deduplicator.blocks_in_progress() if number in left]
        waiting = list(self._deduplicator.reset())
        suspects = [left.pop(number) for number in (begun[-1:] if is_alone else begun)]
        again = [part for block in suspects for part in (self._blamed if is_alone else self._doubted)(block)]
        worst = next((block for block in again if block.own_losses >= _MAX_LOSSES), None)
        if worst:
            raise ClusterError(_losses_message(worst))
        return [*left.values(), *self._make_blocks(waiting), *again], is_alone and bool(suspects)

    def _doubted(self, block: Block) -> list[Block]:
        return self._make_blocks(block.files, doubts=block.shared_losses + 1)

    def _blamed(self, block: Block) -> list[Block]:
        return self._make_blocks(block.files, 1, block.shared_losses, block.own_losses + 1)

    def _make_blocks(
        self, files: Sequence[PictureFile], size: int = BLOCK_SIZE, doubts: int = 0, losses: int = 0
    ) -> list[Block]:
        blocks: list[Block] = []
        for some in split_blocks(files, size):
            blocks.append(Block(self._numbers, pack(some), doubts, losses))
            self._numbers += 1
        return blocks

    def _run_blocks(self, blocks: Sequence[Block], is_alone: bool) -> Iterator[BlockResult]:
        """One execution of Ray Data, of one worker and a block at a time where each is to be alone.

        It ends with Ray's error where a worker is lost.

        Ray's own restarts are off: a worker of a lost machine would wait for room elsewhere, and its blocks with it,
        for ever where the cluster is full.
        """
        at = plan_workers(self._device, 1 if is_alone else self._workers)
        rows = [{"number": block.number, "files": block.packed} for block in blocks]
        strategy = ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=min(at.workers, len(blocks)),
            initial_size=min(at.workers, len(blocks)),
            max_tasks_in_flight_per_actor=1 if is_alone else _AT_HAND,
            max_concurrent_calls_per_actor=1 if is_alone else _PARALLEL_BLOCKS,
            enable_true_multi_threading=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RayDeprecationWarning)  # Ray means to take back all that it has no name for
            answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                Worker,
                fn_constructor_args=(vars(self._worker_config(at)), self._coordinator),
                batch_size=None,
                batch_format="numpy",
                compute=strategy,
                num_cpus=at.cores,
                num_gpus=at.gpus or None,
                label_selector=at.label_selector,
                max_restarts=0,
            )
        try:
            for batch in answers.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
                yield from (unpack(answer) for answer in batch["answer"])
        finally:
            self._kill_workers()

    def _kill_workers(self) -> None:
        """End the workers now: Ray keeps those that a loss leaves, and their room, until it knows who is gone."""
        with suppress(ray.exceptions.RayError):
            for worker in ray.get(self._coordinator.enrolled.remote()):
                ray.kill(worker)

    def _worker_config(self, at: WorkerPlan) -> WorkerConfig:
        model = self._bundle.folder.name if self._bundle.is_shipped else os.fspath(self._bundle.folder)
        megapixels = os.environ.get("RETRIEVE_MAX_MEGAPIXELS", str(MAX_MEGAPIXELS))
        return WorkerConfig(
            model, self._bundle.fingerprint, program_digest(), library_versions(), at.device, at.cores, megapixels
        )

    def _serve_requests(self) -> None:
        """The clerk's work: from the store, which no worker sees, until the desk is closed."""
        replies: list[list[bool]] = []
        try:
            while True:
                questions: list[ClaimRequest] = ray.get(self._coordinator.questions.remote(replies))
                replies = [self._deduplicator.ask(number, contents) for number, contents in questions]
        except ray.exceptions.RayError:
            return
        except Exception as error:  # whatever it is: those who wait for an answer would wait for ever
            self._failure = error
            ray.kill(self._coordinator)


def _without_content(file: PictureFile | Unreadable) -> PictureFile | Unreadable:
    """A file that a worker reads: what was opened on the way to it here is not kept open."""
    return file if isinstance(file, Unreadable) else file._replace(read_content=None)


def _check_result(result: BlockResult, block: Block) -> None:
    """Whether the worker could work at all, and has what is there. Raises ClusterError where not."""
    if result.refusal:
        raise ClusterError(result.refusal)
    lacking = [
        found
        for found, file in zip(block.files, result.files, strict=True)
        if isinstance(file, Failed) and file.is_out_of_reach and not file.is_transient
    ]
    here = [found for found in lacking if not _is_remote(found)]
    there = [found for found in lacking if _is_remote(found)]
    for found in [*here, *there[:_MAX_REMOTE_CHECKS]]:
        if _can_open(found):
            remedy = "give every machine of the cluster the same credentials, and a way there"
            if found in here:
                remedy = "mount the gallery at the same path on every machine of the cluster"
            place = display_location(parse_location(found.path))
            raise ClusterError(f"{place} cannot be read on {result.node}, but here it can: {remedy}")


def _is_remote(found: PictureFile) -> bool:
    """Return whether a file lies on a server."""
    return is_remote(CatalogueLocation.parse(found.path).source)


def _can_open(found: PictureFile) -> bool:
    try:
        with open_picture(found):
            return True
    except PictureError:
        return False


def _losses_message(block: Block) -> str:
    file = display_location(parse_location(block.files[0].path))
    return (
        f"workers were lost {_MAX_LOSSES} times over {file}: take it out of the gallery, or give the"
        " workers more memory, and run the command again"
    )
