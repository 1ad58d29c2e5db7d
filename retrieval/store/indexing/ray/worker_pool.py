"""The workers of an indexing on a Ray cluster, and the blocks that each of them has."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray

from indexes.catalogue.catalogue import Catalogue
from retrieval.common.settings import MAX_MEGAPIXELS
from retrieval.model.bundle import Bundle
from retrieval.store.indexing.ray.cluster import WorkerPlan, is_worker_loss, plan_workers, to_cluster_error
from retrieval.store.indexing.ray.messages import (
    Block,
    BlockResult,
    WorkerConfig,
    content_keys,
    library_versions,
    program_digest,
)
from retrieval.store.indexing.ray.worker import Worker

_PARALLEL_BLOCKS = 3  # of a worker: one is embedded, one decoded, one read
_MAX_BLOCKS = 8  # of a worker, with those that wait there for their turn
_PAUSE = 1.0  # seconds after a loss, until Ray has noticed what else was lost and has the workers' room again
_PLAN_SECONDS = 60.0  # after which the cluster is searched for new room


@dataclass(eq=False)
class PooledWorker:
    """An actor, and its blocks by the reference to each result; `is_ready` once it has given a result."""

    actor: Any
    blocks: dict[Any, Block] = field(default_factory=dict)
    is_ready: bool = False

    def has_room(self, is_alone: bool) -> bool:
        """Return whether it takes one more block; only an idle worker takes one that `is_alone`."""
        is_occupied = any(block.is_suspect for block in self.blocks.values())
        return self.is_ready and not is_occupied and len(self.blocks) < (1 if is_alone else _MAX_BLOCKS)


@dataclass
class WorkDone:
    """Blocks with their results, and blocks whose workers were lost, with one of Ray's errors."""

    finished: list[tuple[Block, BlockResult]] = field(default_factory=list)
    lost: list[Block] = field(default_factory=list)
    error: BaseException | None = None


class WorkerPool:
    """Actors that are started when there is work for them, at most `limit`; None: all that the cluster has room for.

    Ray's own restarts are off: a worker of a lost machine would wait for room elsewhere, and its blocks with it,
    forever if the cluster is full.
    """

    def __init__(self, catalogue: Catalogue, bundle: Bundle, device: str, limit: int | None) -> None:
        self._catalogue = catalogue
        self._bundle = bundle
        self._device = device
        self._limit = limit
        self._workers: list[PooledWorker] = []
        self._plan: WorkerPlan | None = None
        self._planned_at = 0.0
        self._known_keys: Any = None  # in Ray's store, once for all workers

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            self._kill(worker.actor)
        self._workers = []

    @property
    def is_busy(self) -> bool:
        """Whether a worker has files."""
        return any(block.files for worker in self._workers for block in worker.blocks.values())

    def grow(self, blocks: int) -> None:
        """Start the workers that so many blocks need, as far as there is room. Raises ModelError and ClusterError."""
        now = time.monotonic()
        if self._plan is None or now > self._planned_at + _PLAN_SECONDS:
            self._plan, self._planned_at = plan_workers(self._device, self._limit), now
        for _ in range(min(self._plan.workers, blocks) - len(self._workers)):
            worker = PooledWorker(self._start(self._plan))
            self._workers.append(worker)
            self.submit(Block([]), worker)  # done when it has room and its network is open

    def find_room(self, is_alone: bool = False) -> PooledWorker | None:
        """Return the worker with the fewest blocks that takes one more, which is to be done alone if `is_alone`."""
        workers = (worker for worker in self._workers if worker.has_room(is_alone))
        return min(workers, key=lambda worker: len(worker.blocks), default=None)

    def submit(self, block: Block, worker: PooledWorker) -> None:
        """Give a worker a block."""
        worker.blocks[worker.actor.process.remote(block)] = block

    def wait(self) -> WorkDone:
        """Wait for a result or a loss; after a loss, also for what else is lost with it. Raises ClusterError."""
        done = WorkDone()
        lost = self._collect(1, _PLAN_SECONDS, done)
        if lost:
            self._plan = None
            time.sleep(_PAUSE)
            lost |= self._collect(sum(len(worker.blocks) for worker in self._workers), 0, done)
            for worker in lost:
                done.lost.extend(worker.blocks.values())
                self._workers.remove(worker)
                self._kill(worker.actor)
        return done

    def _collect(self, count: int, timeout: float, done: WorkDone) -> set[PooledWorker]:
        """Take up to `count` results, and return the workers that were lost; their lost blocks stay theirs."""
        owners = {ref: worker for worker in self._workers for ref in worker.blocks}
        lost: set[PooledWorker] = set()
        for ref in ray.wait(list(owners), num_returns=count, timeout=timeout)[0] if owners else ():
            worker = owners[ref]
            try:
                result: BlockResult = ray.get(ref)
            except ray.exceptions.RayError as error:
                if not is_worker_loss(error):
                    raise to_cluster_error(error) from error
                done.error = error
                lost.add(worker)
            else:
                done.finished.append((worker.blocks.pop(ref), result))
                worker.is_ready = True
        return lost

    def _start(self, plan: WorkerPlan) -> Any:
        if self._known_keys is None:
            self._known_keys = ray.put(content_keys(self._catalogue.pictures.content_hashes()[1]))
        actor = ray.remote(
            num_cpus=plan.cores,
            num_gpus=plan.gpus or None,
            label_selector=plan.label_selector,
            max_concurrency=_PARALLEL_BLOCKS,
            max_restarts=0,
            max_task_retries=0,
        )(Worker)
        return actor.remote(vars(self._worker_config(plan)), self._known_keys)

    def _worker_config(self, plan: WorkerPlan) -> WorkerConfig:
        model = self._bundle.folder.name if self._bundle.is_shipped else os.fspath(self._bundle.folder)
        megapixels = os.environ.get("RETRIEVE_MAX_MEGAPIXELS", str(MAX_MEGAPIXELS))
        return WorkerConfig(
            model, self._bundle.fingerprint, program_digest(), library_versions(), plan.device, plan.cores, megapixels
        )

    def _kill(self, actor: Any) -> None:
        with suppress(ray.exceptions.RayError):
            ray.kill(actor)
