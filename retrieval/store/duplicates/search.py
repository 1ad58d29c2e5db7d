"""Search for pictures that a store has more than once: equal files, re-saved photographs, and similar ones."""

import os
import time
from dataclasses import dataclass, replace

import numpy as np

from indexes.arrays import Ids, Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import EVERYTHING, Selection, StoredFile
from indexes.vectors.base import VectorIndex
from retrieval.common.grouping import Indices, star_clusters
from retrieval.common.progress import SILENT, Progress
from retrieval.model.head import Array
from retrieval.sources.location import PictureLocation, parse_location
from retrieval.store.duplicates.candidates import NEIGHBOURS, ContentPairs, Contents, exact_cosines, near_pairs
from retrieval.store.duplicates.closeups import CloseLooks
from retrieval.store.duplicates.groups import DuplicateKind, Duplicates, Group, GroupMember
from retrieval.store.duplicates.near_copies import NearCopies, Stars
from retrieval.store.duplicates.thumbnails import ThumbnailSet, file_problem, files_of, is_link, same_file

MIN_AGREEMENT = 0.9
"""The agreement from which two pictures are the same photograph, chosen on flowers, clothes and objects of Caltech."""

_MARGIN = 0.03  # by which a large index's codes may differ from a cosine


@dataclass(frozen=True)
class DuplicateRules:
    """What counts as a duplicate, among the pictures of a selection.

    `near` is the agreement of details, 0 to 1, from which two pictures are the same photograph; None: only equal files
    are. `alike` is the cosine of descriptors, at least .7, from which two are alike; None: these are not searched.
    `between` leaves only groups with pictures of both selections.
    """

    near: float | None = MIN_AGREEMENT
    alike: float | None = None
    selection: Selection = EVERYTHING
    between: tuple[Selection, Selection] | None = None


DEFAULT_RULES = DuplicateRules()


def find_duplicates(
    catalogue: Catalogue,
    index: VectorIndex,
    fingerprint: str,
    rules: DuplicateRules = DEFAULT_RULES,
    progress: Progress = SILENT,
) -> Duplicates:
    """Group a store's pictures by these rules; nothing is changed. Raises StoreError.

    Candidates are the nearest pictures in the index. Those that may be the same photograph are read: each is decoded
    to a thumbnail, once, and aligned with the other.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # small products on several threads of ours: the library's own would only wait
        return _find(catalogue, index, fingerprint, rules, progress)


def _find(
    catalogue: Catalogue, index: VectorIndex, fingerprint: str, rules: DuplicateRules, progress: Progress
) -> Duplicates:
    started = time.perf_counter()
    contents, thumbnails = Contents.of(catalogue, rules.selection), ThumbnailSet()
    candidates = _CandidateSearch(catalogue, index, fingerprint, rules.selection)
    pairs, cosines = candidates.all_pairs(contents, rules, progress)
    copied = np.flatnonzero(np.bincount(contents.numbers, minlength=len(contents)) > 1)
    usable = _UsableFiles(catalogue, contents, thumbnails.unread)
    stars: Stars = []
    if rules.near is not None:
        numbers = np.unique(pairs)
        with progress.stage("Looking at pictures", len(numbers)) as stage:
            thumbnails.load(catalogue, contents, numbers, stage)
        usable.add(np.union1d(copied, numbers))
        copies = NearCopies(thumbnails, CloseLooks(usable.path_of), rules.near)
        confirmed = copies.confirmed(usable.only(pairs))

        def neighbours(members: Ids, contents: Contents, most: int) -> ContentPairs:
            return usable.only(candidates.neighbours(members, contents, most))

        confirmed = np.concatenate([confirmed, copies.among_many(contents, neighbours)])
        confirmed = copies.joined(confirmed, contents, neighbours)
        stars = copies.stars(confirmed, usable.order)
    usable.add(copied)
    in_stars = {number for star in stars for number in star}
    groups = [usable.make_group(star, DuplicateKind.near) for star in stars]
    groups += [
        usable.make_group({number: 1.0}, DuplicateKind.identical)
        for number in copied.tolist()
        if number not in in_stars
    ]
    groups = [group for group in groups if len(group.members) > 1]
    groups.sort(key=lambda group: (-group.spare_bytes, os.fsencode(group.members[0].path)))
    if rules.alike is not None:
        spare = np.array([number for star in stars for number in list(star)[1:]], np.int64)
        likely = pairs[(cosines >= rules.alike - _MARGIN) & ~np.isin(pairs, spare).any(axis=1)]
        groups += _alike_groups(catalogue, fingerprint, contents, likely, rules.alike, usable)
    if rules.between is not None:
        sides = [set(catalogue.pictures.select_ids(side).tolist()) for side in rules.between]
        groups = [each for each in groups if all(any(member.id in ids for member in each.members) for ids in sides)]
    unread = tuple(sorted(thumbnails.unread.items(), key=lambda item: os.fsencode(item[0])))
    seconds = time.perf_counter() - started
    return Duplicates(tuple(groups), len(contents.ids), unread, seconds, tuple(usable.linked))


class _UsableFiles:
    """The files of contents that have not changed since they were indexed, the one most worth keeping first."""

    def __init__(self, catalogue: Catalogue, contents: Contents, unread: dict[PictureLocation, str]) -> None:
        self._catalogue, self._contents, self._unread = catalogue, contents, unread
        self._files: dict[int, list[StoredFile]] = {}
        self.linked: list[tuple[PictureLocation, ...]] = []  # the names of each file that has several

    def add(self, numbers: Ids) -> None:
        """Add contents."""
        new = np.array([number for number in numbers.tolist() if number not in self._files], np.int64)
        for number, files in zip(new.tolist(), files_of(self._catalogue, self._contents, new), strict=True):
            usable = sorted((file for file in files if self._is_usable(file)), key=_keep_key)
            names: dict[object, list[StoredFile]] = {}
            for file in usable:
                names.setdefault(same_file(file), []).append(file)
            self._files[number] = [first for first, *_ in names.values()]
            self.linked += [tuple(parse_location(each.path) for each in files) for files in names.values() if files[1:]]

    def _is_usable(self, file: StoredFile) -> bool:
        path = parse_location(file.path)
        if path not in self._unread and (reason := file_problem(file)) is not None:
            self._unread[path] = reason
        return path not in self._unread

    def only(self, pairs: ContentPairs) -> ContentPairs:
        """Return the pairs whose contents both have a file."""
        usable = np.array([number for number, files in self._files.items() if files], np.int64)
        return pairs[np.isin(pairs, usable).all(axis=1)]

    def path_of(self, number: int) -> PictureLocation:
        """Return the path of a content's first file."""
        return parse_location(self._files[number][0].path)

    @property
    def order(self) -> Ids:
        """The rank of each content by how much it is worth keeping."""
        ranks = np.zeros(len(self._contents), np.int64)
        usable = [number for number, files in self._files.items() if files]
        ranks[sorted(usable, key=lambda number: _keep_key(self._files[number][0]))] = np.arange(len(usable))
        return ranks

    def make_group(self, star: dict[int, float], kind: DuplicateKind, copies: bool = True) -> Group:
        """Return the pictures of a star of contents, with their copies or without; those of the first are identical."""
        first = next(iter(star))
        members = [
            _member(file, DuplicateKind.identical if number == first else kind, similarity)
            for number, similarity in star.items()
            for file in self._files[number][: None if copies else 1]
        ]
        return Group(kind, (*(replace(member, kind=None) for member in members[:1]), *members[1:]))


@dataclass(frozen=True)
class _CandidateSearch:
    """A search of the index for candidates among the pictures of a selection."""

    catalogue: Catalogue
    index: VectorIndex
    fingerprint: str
    selection: Selection

    def all_pairs(self, contents: Contents, rules: DuplicateRules, progress: Progress) -> tuple[ContentPairs, Array]:
        """Return the pairs of contents that are near in the index, each once, with their cosines by the index."""
        parts: list[tuple[ContentPairs, Array]] = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
        if len(contents) > 1 and (rules.near is not None or rules.alike is not None):
            firsts = contents.ids[np.sort(contents.firsts)]
            with progress.stage("Searching", len(contents)) as stage:
                for ids, vectors in self.catalogue.descriptors.all(self.fingerprint):
                    is_first = np.isin(ids, firsts)
                    parts.append(self._near(contents, ids[is_first], vectors[is_first]))
                    stage.advance(int(is_first.sum()))
        pairs, cosines = (np.concatenate(part) for part in zip(*parts, strict=True))
        pairs, rows = np.unique(pairs, axis=0, return_index=True)  # each may have been found from either side
        return pairs, cosines[rows]

    def neighbours(self, members: Ids, contents: Contents, most: int) -> ContentPairs:
        """Return the pairs of some contents with at most so many near ones, by the numbers of `contents`."""
        ids = np.sort(contents.ids[contents.firsts[members]])
        parts = [self._near(contents, *rows, most)[0] for rows in self.catalogue.descriptors.of(ids, self.fingerprint)]
        return np.unique(np.concatenate([np.empty((0, 2), np.int64), *parts]), axis=0)

    def _near(
        self, contents: Contents, ids: Ids, vectors: Vectors, most: int = NEIGHBOURS
    ) -> tuple[ContentPairs, Array]:
        among = None if self.selection.is_all else contents.ids
        return near_pairs(self.index, contents, contents.number_of(ids), vectors, among, most)


def _alike_groups(
    catalogue: Catalogue,
    fingerprint: str,
    contents: Contents,
    pairs: ContentPairs,
    min_cosine: float,
    usable: _UsableFiles,
) -> list[Group]:
    """Group contents that are alike by their stored descriptors, one picture of each content."""

    def cosines(firsts: Indices, others: Indices) -> Array:
        ids, other_ids = (contents.ids[contents.firsts[numbers]] for numbers in (firsts, others))
        return exact_cosines(catalogue, fingerprint, ids, other_ids)

    pairs = pairs[cosines(pairs[:, 0], pairs[:, 1]) >= min_cosine]
    usable.add(np.unique(pairs))
    stars = star_clusters(usable.only(pairs), usable.order, min_cosine, cosines)
    return [usable.make_group(star, DuplicateKind.alike, copies=False) for star in stars]


def _member(file: StoredFile, kind: DuplicateKind, similarity: float) -> GroupMember:
    path = parse_location(file.path)
    return GroupMember(file.id, path, file.label, file.width, file.height, file.size, kind, similarity)


def _keep_key(file: StoredFile) -> tuple[bool, int, int, int, int, bytes]:
    """Sort the file most worth keeping first: no link, most pixels, largest, oldest, shortest path."""
    return is_link(file), -file.width * file.height, -file.size, file.mtime, len(file.path), file.path
