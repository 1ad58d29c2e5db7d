"""The engine: a store, a model and a network together. What the command line and other programs use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexes.base import NONE, Ids, LabelledIndex, TunedIndex
from indexes.catalogue import Catalogue
from indexes.errors import StoreError
from indexes.homes import choose_home, leave_former_home
from indexes.opening import is_store
from indexes.records import EVERYTHING, Selection
from retrieval.addresses import Address, Place, gallery_name, located
from retrieval.bundle import Bundle, find_bundle
from retrieval.calibration import Calibration, read_calibration
from retrieval.compare import Comparer
from retrieval.duplicates import ANY, Rules, find_duplicates
from retrieval.errors import GalleryError, ModelError, PictureError
from retrieval.explain import Explanation
from retrieval.galleries import resolve_gallery
from retrieval.groups import Duplicates
from retrieval.head import Array
from retrieval.indexing import IndexReport, index_galleries, outermost, remove
from retrieval.network import Step
from retrieval.pictures import Pixels, Source
from retrieval.pipeline import LocalPipeline, Pipeline
from retrieval.scan import Advance
from retrieval.search import Hit, rescored
from retrieval.settings import PLAINLY, POOL, RECALL, How, RunsOn
from retrieval.shards import WHOLE, Shard
from retrieval.tune import tune
from retrieval.tuning import Tuning, keep_tuning, read_tuning
from retrieval.under_way import noted
from retrieval.upkeep import Stage, open_index

_LONG, _PATIENCE = 0.5, 10  # an index that took more seconds to open is kept for so many times as long

ABSENT = "the file is not there now: is its disk mounted?"
LEFT_ALONE = "the index was left alone: it follows at the next query or `retrieve index`"
NO_GALLERY = "the store knows no gallery yet: give a folder of pictures"


@dataclass(frozen=True)
class Result:
    """A query's hits, how many candidates were rescored, and the seconds of each stage."""

    hits: list[Hit]
    pool: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Question:
    """A query picture with its descriptor (C,), the ids of its candidates, and its share of the seconds so far.

    `pixels` is None where the descriptor was known already; the picture is read where an explanation needs it.
    """

    source: Source
    pixels: Pixels | None
    descriptor: Array
    candidates: Ids
    seconds: dict[str, float]


class Engine:
    """Index folders of pictures and ask them with a picture.

    Opened with `Engine.open` or `Engine.create`. Raises StoreError, ModelError, PictureError, GalleryError.
    """

    def __init__(self, catalogue: Catalogue, comparer: Comparer) -> None:
        self.catalogue = catalogue
        self.bundle = comparer.bundle
        self._comparer = comparer
        self._opened: tuple[str, TunedIndex] | None = None  # the index, with its generation
        self._keep_until = 0.0

    @classmethod
    def open(
        cls,
        store: str | os.PathLike[str],
        model: str | None = None,
        device: str = "auto",
        on_step: Step = lambda step: None,
    ) -> Engine:
        """The engine of an existing store, with its own model or another head on the same backbone."""
        return cls._of(Catalogue(Path(store)), model, device, on_step)

    @classmethod
    def create(
        cls,
        store: str | os.PathLike[str],
        model: str | None = None,
        device: str = "auto",
        on_step: Step = lambda step: None,
        address: str | None = None,
        is_here: bool = True,
    ) -> Engine:
        """The engine of a new store, with the model `default` where none is named; an existing one is opened.

        The network of a new store is opened at once, unless pictures are to be embedded elsewhere (not `is_here`).

        With the address of a PostgreSQL database, a new store's catalogue lies there, and may have been begun by
        another store; an existing store's must lie there already.
        """
        if _is_begun(Path(store), address):
            return cls._of(Catalogue(Path(store), create=True, address=address), model, device, on_step)
        comparer = Comparer(find_bundle(model or "default"), device, on_step)
        name = _name_in_store(comparer.bundle, model or "default")
        if is_here:
            comparer.load()  # a model that cannot run leaves no store behind
        catalogue = Catalogue(Path(store), create=True, address=address)
        if catalogue.setting("model") is None:
            catalogue.set_settings(model=name, fingerprint=comparer.bundle.fingerprint)
        _check_model(catalogue, comparer.bundle)
        return cls(catalogue, comparer)

    @classmethod
    def _of(cls, catalogue: Catalogue, model: str | None, device: str, on_step: Step) -> Engine:
        kept = catalogue.setting("model")
        if kept is None:
            raise StoreError(f"{catalogue.folder} has nothing indexed yet: run `retrieve index GALLERY`")
        bundle = find_bundle(model or kept)
        _check_model(catalogue, bundle)
        return cls(catalogue, Comparer(bundle, device, on_step))

    def keep_index_at(self, address: str) -> None:
        """Keep the store's index there from the next `index` on: `faiss`, or the address of a Milvus.

        Raises StoreError where it cannot be kept there.
        """
        choose_home(self.catalogue, self.bundle.fingerprint, address)
        self._hold(None)

    def _hold(self, opened: tuple[str, TunedIndex] | None) -> None:
        """Search this index from now on, and give back the one before."""
        before, self._opened = self._opened, opened
        if before is not None:
            before[1].close()

    def _index(self) -> TunedIndex:
        """The index of the catalogue as it is now; another process may have changed it since the last call.

        Where it takes long to follow, as that of a large gallery that is being indexed, it is followed now and then.
        """
        generation = self.catalogue.generation
        if self._opened is None or (self._opened[0] != generation and time.monotonic() >= self._keep_until):
            started = time.monotonic()
            self._hold((generation, open_index(self.catalogue, self.bundle.fingerprint)))
            took = time.monotonic() - started
            self._keep_until = started + took * (_PATIENCE if took > _LONG else 1)
        assert self._opened is not None
        return self._opened[1]

    @property
    def calibration(self) -> Calibration | None:
        """What the store's similarity is calibrated by; None where it is not, or is for another head than this one."""
        kept = read_calibration(self.catalogue)
        return kept if kept and kept.digest == self.bundle.head.digest else None

    def _calibrate(self) -> None:
        """Judge pairs as the store is calibrated now; another process may have changed it since the last call."""
        calibration = self.calibration
        self._comparer.neuron = (calibration.slope, calibration.intercept) if calibration else None

    def load(self) -> None:
        """Open the network now, not on first use."""
        self._comparer.load()

    def close(self) -> None:
        """Give back the store's files, and its index."""
        self._hold(None)
        self.catalogue.close()

    def index(
        self,
        *galleries: str | os.PathLike[str],
        advance: Advance = lambda files: None,
        on_folders: Callable[[list[bytes]], None] = lambda folders: None,
        on_stage: Stage = lambda title, pictures: None,
        shard: Shard = WHOLE,
        runs_on: RunsOn = RunsOn.local,
        workers: int | None = None,
    ) -> IndexReport:
        """Bring these galleries (all known ones where none is given) up to date in the store.

        Where one of these is gone nothing is done at all, and one without pictures loses none. A known gallery that
        is gone is told in the report and loses none either, unless all are: then nothing is done. An index of a new
        kind or size is tuned; `on_stage` is told of that and `advance` of its progress.

        On Ray, files are read and embedded by the `workers` of a cluster (None: all that it has room for). A shard
        of the galleries' files leaves the index as it is, for a run without one or a query to follow.
        """
        absent: list[Place] = []
        if galleries:
            folders = outermost([resolve_gallery(gallery) for gallery in galleries])
        else:
            folders, absent = _present_roots(self.catalogue.roots())
        if not folders:
            raise GalleryError(NO_GALLERY)
        on_folders(folders)
        fingerprint = self.bundle.fingerprint
        with noted(self.catalogue, folders) as note, self._pipeline(runs_on, workers) as pipeline:

            def advanced(files: int) -> None:
                advance(files)
                note(files)

            report = index_galleries(self.catalogue, pipeline, fingerprint, folders, advanced, shard)
        self._comparer.unload()  # its memory is the index's now
        if not shard.is_all:
            return replace(report, kept_roots=(*absent, *report.kept_roots), notes=(f"{shard} is done; {LEFT_ALONE}",))
        index = open_index(self.catalogue, fingerprint, must_save=True, on_stage=on_stage, advance=advance)
        self._hold((self.catalogue.generation, index))
        left = leave_former_home(self.catalogue, fingerprint)
        tuning = read_tuning(self.catalogue)
        if tuning is None or tuning.kind != index.kind:
            self.tune(on_stage=on_stage, advance=advance)
        notes = () if left is None else (left,)
        return replace(report, kept_roots=(*absent, *report.kept_roots), notes=notes)

    @contextmanager
    def _pipeline(self, runs_on: RunsOn, workers: int | None) -> Iterator[Pipeline]:
        bundle = self.bundle
        if runs_on is RunsOn.ray:
            from retrieval.ray_cluster import connected
            from retrieval.ray_pipeline import RayPipeline

            with connected(), closing(RayPipeline(self.catalogue, bundle, self._comparer.device, workers)) as pipeline:
                yield pipeline
        else:
            size = bundle.card.preprocessing.size
            yield LocalPipeline(self.catalogue, self._comparer.network, bundle.fingerprint, size)

    def tune(
        self,
        recall: float = RECALL,
        on_stage: Stage = lambda title, pictures: None,
        advance: Advance = lambda pictures: None,
    ) -> list[Tuning]:
        """Search no further than this recall@10 takes, as measured on the gallery: each step, the last one kept."""
        index = self._index()
        if not index.is_exact:
            on_stage("Measuring the index", len(index))
        steps = tune(self.catalogue, index, self.bundle.head, self.bundle.fingerprint, recall, advance)
        keep_tuning(self.catalogue, steps[-1])
        return steps

    def remove(self, *paths: str | os.PathLike[str]) -> int:
        """Take pictures or whole folders out of the store; how many pictures there were. The files stay."""
        return sum(remove(self.catalogue, path).pictures for path in paths)

    def duplicates(
        self,
        rules: Rules = ANY,
        on_stage: Stage = lambda title, pictures: None,
        advance: Advance = lambda pictures: None,
    ) -> Duplicates:
        """Groups of pictures that are the same, or alike, by these rules; nothing is deleted."""
        return find_duplicates(self.catalogue, self._index(), self.bundle.fingerprint, rules, on_stage, advance)

    def query(self, source: Source, top: int = 5, explain: bool = True, how: How = PLAINLY) -> list[Hit]:
        """The `top` most similar pictures of the store, best first, each with its explanation."""
        return self.search(source, top, explain=explain, how=how).hits

    def search(
        self,
        source: Source,
        top: int = 5,
        pool: int = POOL,
        label: str | None = None,
        min_similarity: float = 0.0,
        explain: bool = True,
        how: How = PLAINLY,
    ) -> Result:
        """A query with its figures. `label` and `min_similarity` (0 to 1) keep only such hits.

        Raises ValueError where `top` is less than 1 or more than `pool`.
        """
        if not 1 <= top <= pool:
            raise ValueError(f"top must be from 1 to the pool of {pool}, not {top}")
        question = self.find([source], pool, Selection(label))[0]
        if isinstance(question, PictureError):
            raise question
        return self.answer(question, top, min_similarity, explain, how)

    def find(
        self, sources: Sequence[Source], pool: int = POOL, among: Selection = EVERYTHING
    ) -> list[Question | PictureError]:
        """The candidates of any number of pictures, from one search of the index; a broken picture gives its error."""
        watch = _Watch()
        with watch("load"):
            self._index(), self._comparer.head, self._comparer.network
        with watch("embed"):
            read = self._comparer.read(sources)
            good = [
                (source, pixels)
                for source, pixels in zip(sources, read, strict=True)
                if not isinstance(pixels, PictureError)
            ]
            descriptors = self.describe([pixels for _, pixels in good])
        with watch("search"):
            pools = self.candidates(descriptors, pool, among)
        seconds = {stage: each / max(1, len(good)) for stage, each in watch.seconds.items()}
        found = iter(
            Question(source, pixels, descriptor, ids, seconds)
            for (source, pixels), descriptor, ids in zip(good, descriptors, pools, strict=True)
        )
        return [pixels if isinstance(pixels, PictureError) else next(found) for pixels in read]

    def read(self, source: Source, size: int | None = None) -> Pixels:
        """A picture as the network sees it, uint8 (size, size, 3); None: at the model's own size."""
        return self._comparer.at(size).pixels(source)

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        """Descriptors (N, C) of pictures at the model's own size, equal to the stored ones of the same pictures."""
        return self._comparer.describe(pixels) if pixels else np.empty((0, 1), np.float32)

    def candidates(self, descriptors: Array, pool: int = POOL, among: Selection = EVERYTHING) -> list[Ids]:
        """The ids nearest to each descriptor (N, C) by the index, nearest first: at most `pool` each."""
        if not len(descriptors):
            return []
        index = self._index()
        if among.only_label is not None and isinstance(index, LabelledIndex):
            found = index.search_label(descriptors, pool, among.only_label)[1]
        else:
            chosen = None if among.is_all else self.catalogue.selected(among)
            found = index.search(descriptors, pool, chosen)[1]
        return [ids[ids != NONE] for ids in found]

    def stored(self, picture: int) -> Array | None:
        """The descriptor (C,) of an indexed picture by its id; None where it is not there."""
        found = [vectors for _, vectors in self.catalogue.vectors_of(np.array([picture]), self.bundle.fingerprint)]
        return found[0][0] if found else None

    def ranked(self, question: Question) -> tuple[int, Iterator[Hit]]:
        """How many candidates were rescored, and those whose files are there as hits, best first, as they are read."""
        self._calibrate()
        head, fingerprint = self._comparer.head, self.bundle.fingerprint
        ranking = rescored(self.catalogue, head, fingerprint, question.descriptor, question.candidates)
        return len(ranking), _present(ranking.hits(self.catalogue))

    def answer(
        self,
        question: Question,
        top: int = 5,
        min_similarity: float = 0.0,
        explain: bool = True,
        how: How = PLAINLY,
    ) -> Result:
        """A question's candidates rescored: the `top` of them, each with its explanation."""
        watch = _Watch(question.seconds)
        with watch("rescore"):
            pool, ranked = self.ranked(question)
            hits = list(islice(takewhile(lambda hit: hit.similarity >= min_similarity, ranked), top))
        if explain:
            with watch("explain"):
                hits = self._explained(question, hits, how)
        return Result(hits, pool, watch.seconds)

    def explain(self, a: Source, b: Source, how: How = PLAINLY) -> Explanation:
        """Why two pictures are similar or different: `a` in the place of the query, `b` of the hit."""
        self._calibrate()
        return self._comparer.explain(a, b, how)

    def distances(self, descriptor: Array, others: Array) -> NDArray[np.float64]:
        """The head's distances d (N,) of a descriptor (C,) from others (N, C), as the store is calibrated."""
        self._calibrate()
        head = self._comparer.head
        return head.distance(head.separation(head.embed(descriptor[None]), head.embed(others)))

    def explain_read(
        self, query: Pixels, others: Sequence[Pixels], distances: NDArray[np.float64], how: How = PLAINLY
    ) -> list[Explanation]:
        """Why a picture has these distances (N,) from others, all read already, at the size that `how` says."""
        return self._comparer.at(how.size).explain_known([query, *others], distances, how)

    def preprocess(self, source: Source) -> NDArray[np.float32]:
        """What the network sees of a picture: float32 (3, size, size)."""
        return self._comparer.preprocess(source)

    def _explained(self, question: Question, hits: list[Hit], how: How) -> list[Hit]:
        """The query and the hits, and only those, go through the network for their activations, in one batch."""
        comparer = self._comparer.at(how.size)
        known = question.pixels if comparer is self._comparer else None
        query = comparer.pixels(question.source) if known is None else known
        read = dict(zip([hit.rank for hit in hits], comparer.read([hit.path for hit in hits]), strict=True))
        pixels = {rank: seen for rank, seen in read.items() if not isinstance(seen, PictureError)}
        notes = {
            rank: f"cannot be explained: the file {error.reason}"
            for rank, error in read.items()
            if isinstance(error, PictureError)
        }
        explanations: dict[int, Explanation] = {}
        if pixels:
            distances = np.array([hit.distance for hit in hits if hit.rank in pixels])
            explained = comparer.explain_known([query, *pixels.values()], distances, how)
            explanations = dict(zip(pixels, explained, strict=True))
        return [
            replace(hit, explanation=explanations.get(hit.rank), note=notes.get(hit.rank, hit.note)) for hit in hits
        ]


def _is_begun(store: Path, address: str | None) -> bool:
    if address is None and not is_store(store):
        return False
    catalogue = Catalogue(store, address=address)
    try:
        return catalogue.setting("model") is not None
    finally:
        catalogue.close()


def _check_model(catalogue: Catalogue, bundle: Bundle) -> None:
    """Vectors of two models never meet in one search."""
    if catalogue.setting("fingerprint") != bundle.fingerprint:
        raise StoreError(
            f"{catalogue.folder} was indexed with another model ({catalogue.setting('model')}) than"
            f" {bundle.card.name}: give that model with --model, or index the gallery again into another --store"
        )


def _name_in_store(bundle: Bundle, name: str) -> str:
    """By what a store finds its model again: its name, or its folder where it does not come with the package."""
    kept = name if bundle.is_shipped else str(bundle.folder)
    try:
        kept.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"{bundle.folder} has a name that is no UTF-8: give the model's folder another") from error
    return kept


def _present_roots(roots: list[bytes]) -> tuple[list[bytes], list[Place]]:
    """The known galleries that are there, and those that are not: one unmounted disk does not hold up the rest.

    Raises GalleryError where none is there.
    """
    folders: list[bytes] = []
    absent: list[Place] = []
    for root in roots:
        try:
            folders.append(resolve_gallery(gallery_name(root)))
        except GalleryError:
            absent.append(located(root))
            if len(absent) == len(roots):
                raise
    return folders, absent


def _present(ranked: Iterable[Hit]) -> Iterator[Hit]:
    """Those whose files are there, ranked anew; a file deleted since it was indexed is no result."""
    rank = 1
    for hit in ranked:
        if not _deleted(hit.path):
            absent = not isinstance(hit.path, Address) and not os.path.lexists(hit.path)
            yield replace(hit, rank=rank, note=ABSENT if absent else None)
            rank += 1


def _deleted(path: Place) -> bool:
    """Whether the file is gone from its folder; one in a closed folder or on an unmounted disk is not.

    A server is not asked: what it lacks is told where it is to be explained.
    """
    if isinstance(path, Address):
        return False
    try:
        path.lstat()
    except FileNotFoundError:
        return os.path.isdir(path.parent)
    except OSError:
        return False
    return False


class _Watch:
    """Seconds by stage."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(before or {})

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started
