"""From files to descriptors on a Ray cluster: workers get blocks of files; lost blocks are repeated."""

from collections import deque
from collections.abc import Generator, Iterator

from indexes.catalogue.catalogue import Catalogue
from retrieval.common.errors import ClusterError, PictureError, first_line
from retrieval.model.bundle import Bundle
from retrieval.sources.entries import PictureFile, Unreadable
from retrieval.sources.files import open_picture
from retrieval.sources.location import CatalogueLocation, display_location, is_remote, parse_location
from retrieval.store.indexing.pipeline import Batch, failure_of
from retrieval.store.indexing.ray.chunks import chunks
from retrieval.store.indexing.ray.deduplication import Deduplicator
from retrieval.store.indexing.ray.messages import SHARED_LOSSES, Block, BlockResult, Failed, split_blocks
from retrieval.store.indexing.ray.worker_pool import WorkDone, WorkerPool

_MAX_FILES = 20_000  # that are walked to ahead of the workers
_MAX_LOSSES = 3  # of workers over one file alone, or in a row with nothing done
_MAX_REMOTE_CHECKS = 4  # files at addresses, of a block, that are opened here too if a worker could not


class RayPipeline:
    """A pipeline whose workers read, hash, decode and embed; only the driver uses the store.

    The process must be connected to a cluster. `workers` limits their number; None: as many as there is room for.
    """

    def __init__(self, catalogue: Catalogue, bundle: Bundle, device: str, workers: int | None) -> None:
        self._pool = WorkerPool(catalogue, bundle, device, workers)
        self._deduplicator = Deduplicator(catalogue, bundle.fingerprint)
        self._waiting: deque[Block] = deque()
        self._suspects: deque[Block] = deque()
        self._futile_losses = 0

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def batches(self, changed: Iterator[PictureFile | Unreadable]) -> Generator[Batch, None, None]:
        """Read and embed these files, each once, however often workers are lost. Raises ClusterError."""
        for chunk in chunks(map(_without_content, changed), _MAX_FILES):
            failures = [failure_of(file) for file in chunk if isinstance(file, Unreadable)]
            if failures:
                yield Batch(failures=failures)
            self._waiting.extend(map(Block, split_blocks(file for file in chunk if isinstance(file, PictureFile))))
            while self._waiting:  # the workers still have blocks while the next chunk is fetched
                yield from self._step()
        while self._waiting or self._suspects or self._pool.is_busy:
            yield from self._step()

    def _step(self) -> Iterator[Batch]:
        """Give out blocks, and take the next results."""
        self._pool.grow(len(self._waiting) + len(self._suspects))
        while self._waiting and (worker := self._pool.find_room()):
            self._pool.submit(self._waiting.popleft(), worker)
        while self._suspects and not self._waiting and (worker := self._pool.find_room(is_alone=True)):
            self._pool.submit(self._suspects.popleft(), worker)
        done = self._pool.wait()
        for block, result in done.finished:
            _check_result(result, block)
            batch, unresolved = self._deduplicator.merge(block.files, result.files)
            if unresolved:
                self._waiting.append(Block(unresolved, ignore_known=True))
            if len(batch):
                self._futile_losses = 0
                yield batch
        if done.error is not None:
            self._repeat(done, done.error)

    def _repeat(self, done: WorkDone, error: BaseException) -> None:
        """Repeat lost blocks: once as they were, then file by file, each alone on its worker, after all others.

        Only a loss there counts against a file: machines that come and go take blameless ones with them. Raises
        ClusterError if one file is blamed too often, or nothing is done in between.
        """
        if not any(block.is_suspect for block in done.lost):
            self._futile_losses += 1
        for block in done.lost:
            again = Block(block.files, block.losses + 1, block.ignore_known)
            if block.losses == SHARED_LOSSES + _MAX_LOSSES - 1:
                file = display_location(parse_location(block.files[0].path))
                raise ClusterError(
                    f"workers were lost {_MAX_LOSSES} times over {file}: take it out of the gallery, or give the"
                    " workers more memory, and run the command again"
                ) from error
            if block.is_suspect:
                self._suspects.append(again)
            elif again.is_suspect:
                self._suspects.extend(Block([file], again.losses, again.ignore_known) for file in block.files)
            elif block.files:
                self._waiting.appendleft(again)
        if self._futile_losses >= _MAX_LOSSES:
            raise ClusterError(
                f"workers were lost {self._futile_losses} times in a row with nothing done ({first_line(error)}):"
                " look at the cluster, and run the command again"
            ) from error


def _without_content(file: PictureFile | Unreadable) -> PictureFile | Unreadable:
    """Drop what was opened on the way to a file, which a worker opens itself."""
    return file if isinstance(file, Unreadable) else file._replace(read_content=None)


def _check_result(result: BlockResult, block: Block) -> None:
    """Raise ClusterError if the worker cannot work, or could not open files that can be opened here."""
    if result.refusal:
        raise ClusterError(result.refusal)
    failed = [
        file
        for file, outcome in zip(block.files, result.files, strict=True)
        if isinstance(outcome, Failed) and outcome.is_out_of_reach and not outcome.is_transient
    ]
    local = [file for file in failed if not is_remote(CatalogueLocation.parse(file.path).source)]
    remote = [file for file in failed if file not in local]
    for file in [*local, *remote[:_MAX_REMOTE_CHECKS]]:
        if _can_open(file):
            remedy = "give every machine of the cluster the same credentials, and a way there"
            if file in local:
                remedy = "mount the gallery at the same path on every machine of the cluster"
            location = display_location(parse_location(file.path))
            raise ClusterError(f"{location} cannot be read on {result.node}, but here it can: {remedy}")


def _can_open(file: PictureFile) -> bool:
    try:
        with open_picture(file):
            return True
    except PictureError:
        return False
