"""Pictures that a store has more than once: equal files, the same photograph saved anew, and those that are alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from indexes.arrays import Ids
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import EVERYTHING, Selection, StoredFile
from indexes.vectors.base import VectorIndex
from retrieval.model.head import Array
from retrieval.sources.location import Place, located
from retrieval.store.duplicates.candidates import Contents, Pairs, each_once, exact_cosines, near_pairs
from retrieval.store.duplicates.grouping import Places, stars
from retrieval.store.duplicates.groups import Duplicates, Group, Kind, Member
from retrieval.store.duplicates.thumbnails import Glances, fault, files_of

Stage = Callable[[str, int], None]
Advance = Callable[[int], None]

NEAR = 0.9
"""The agreement from which two pictures are the same photograph, chosen on flowers, clothes and objects of Caltech."""

_MARGIN = 0.03  # what the codes of a large index may be off a cosine


@dataclass(frozen=True)
class Rules:
    """What counts as a duplicate, among the pictures of a selection.

    `near` is the agreement of details, 0 to 1, from which two pictures are the same photograph; None: only equal files
    are. `alike` is the cosine of descriptors, at least .7, from which two are alike; None: that is not asked.
    """

    near: float | None = NEAR
    alike: float | None = None
    among: Selection = EVERYTHING


ANY = Rules()


def find_duplicates(
    catalogue: Catalogue,
    index: VectorIndex,
    fingerprint: str,
    rules: Rules = ANY,
    on_stage: Stage = lambda title, pictures: None,
    advance: Advance = lambda pictures: None,
) -> Duplicates:
    """The groups of a store by these rules. Nothing is changed. Raises StoreError.

    Candidates are the nearest in the index. Those that may be the same photograph are looked at: each is decoded small,
    once, and laid over the other. `on_stage` is told of what may take long, `advance` of its progress.
    """
    started = time.perf_counter()
    contents, glances = Contents.of(catalogue, rules.among), Glances()
    pairs, cosines = _candidates(catalogue, index, fingerprint, contents, rules, on_stage, advance)
    confirmed = pairs[:0]
    if rules.near is not None:
        numbers = np.unique(pairs)
        on_stage("Looking at pictures", len(numbers))
        glances.look(catalogue, contents, numbers, advance)
        confirmed = pairs[glances.agreements(pairs) >= rules.near]
    several = np.flatnonzero(np.bincount(contents.numbers, minlength=len(contents)) > 1)
    kept = _Kept(catalogue, contents, glances.unread)
    kept.add(np.union1d(several, np.unique(confirmed)))
    found = stars(kept.only(confirmed), kept.order, rules.near or 0, glances.related)
    groups = [kept.group(star, Kind.near) for star in found]
    joined = {number for star in found for number in star}
    alone = [kept.group({number: 1.0}, Kind.identical) for number in several.tolist() if number not in joined]
    groups = sorted([group for group in [*groups, *alone] if len(group.members) > 1], key=_most_spare)
    if rules.alike is not None:
        beside = np.array([number for star in found for number in list(star)[1:]], np.int64)
        likely = pairs[(cosines >= rules.alike - _MARGIN) & ~np.isin(pairs, beside).any(axis=1)]
        groups += _alike(catalogue, fingerprint, contents, likely, rules.alike, kept)
    unread = tuple(sorted(glances.unread.items(), key=lambda each: os.fsencode(each[0])))
    return Duplicates(tuple(groups), len(contents.ids), unread, time.perf_counter() - started)


class _Kept:
    """The files of contents that are there as they were indexed, the one most worth keeping first."""

    def __init__(self, catalogue: Catalogue, contents: Contents, unread: dict[Place, str]) -> None:
        self._catalogue, self._contents, self._unread = catalogue, contents, unread
        self._files: dict[int, list[StoredFile]] = {}

    def add(self, numbers: Ids) -> None:
        """Take in contents."""
        new = np.array([number for number in numbers.tolist() if number not in self._files], np.int64)
        for number, files in zip(new.tolist(), files_of(self._catalogue, self._contents, new), strict=True):
            self._files[number] = sorted((file for file in files if self._stands(file)), key=_worth)

    def _stands(self, file: StoredFile) -> bool:
        path = located(file.path)
        if path not in self._unread and (reason := fault(file)) is not None:
            self._unread[path] = reason
        return path not in self._unread

    def only(self, pairs: Pairs) -> Pairs:
        """Those of these pairs of which both have a file."""
        there = np.array([number for number, files in self._files.items() if files], np.int64)
        return pairs[np.isin(pairs, there).all(axis=1)]

    @property
    def order(self) -> Ids:
        """By content, its place among all in the order of worth."""
        places = np.zeros(len(self._contents), np.int64)
        held = [number for number, files in self._files.items() if files]
        for place, number in enumerate(sorted(held, key=lambda each: _worth(self._files[each][0]))):
            places[number] = place
        return places

    def group(self, star: dict[int, float], kind: Kind, copies: bool = True) -> Group:
        """The pictures of a star of contents, each with its copies or once; a copy of the first is identical to it."""
        first = next(iter(star))
        members = [
            _member(file, Kind.identical if number == first else kind, similarity)
            for number, similarity in star.items()
            for file in self._files[number][: None if copies else 1]
        ]
        return Group(kind, (*(replace(member, kind=None) for member in members[:1]), *members[1:]))


def _candidates(
    catalogue: Catalogue,
    index: VectorIndex,
    fingerprint: str,
    contents: Contents,
    rules: Rules,
    on_stage: Stage,
    advance: Advance,
) -> tuple[Pairs, Array]:
    """Pairs of contents that are near in the index, each once, with what the index says is their cosine."""
    parts: list[tuple[Pairs, Array]] = [(np.empty((0, 2), np.int64), np.empty(0, np.float32))]
    if len(contents) > 1 and (rules.near is not None or rules.alike is not None):
        on_stage("Searching", len(contents))
        among = None if rules.among.is_all else contents.ids
        asking = contents.ids[np.sort(contents.firsts)]
        for ids, vectors in catalogue.vectors(fingerprint):
            wanted = np.isin(ids, asking)
            parts.append(near_pairs(index, contents, contents.number_of(ids[wanted]), vectors[wanted], among))
            advance(int(wanted.sum()))
    pairs, cosines = (np.concatenate(part) for part in zip(*parts, strict=True))
    return each_once(pairs, cosines)


def _alike(
    catalogue: Catalogue, fingerprint: str, contents: Contents, pairs: Pairs, least: float, kept: _Kept
) -> list[Group]:
    """Groups of contents that are alike by their stored descriptors, one picture of each content."""

    def related(firsts: Places, others: Places) -> Array:
        ids, other_ids = (contents.ids[contents.firsts[each]] for each in (firsts, others))
        return exact_cosines(catalogue, fingerprint, ids, other_ids)

    pairs = pairs[related(pairs[:, 0], pairs[:, 1]) >= least]
    kept.add(np.unique(pairs))
    found = stars(kept.only(pairs), kept.order, least, related)
    return [kept.group(star, Kind.alike, copies=False) for star in found]


def _member(file: StoredFile, kind: Kind, similarity: float) -> Member:
    path = located(file.path)
    return Member(file.id, path, file.label, file.width, file.height, file.size, kind, similarity)


def _worth(file: StoredFile) -> tuple[int, int, int, int, bytes]:
    """The picture most worth keeping comes first: most pixels, largest file, oldest, shortest path."""
    return -file.width * file.height, -file.size, file.mtime, len(file.path), file.path


def _most_spare(group: Group) -> tuple[int, bytes]:
    return -group.spare_bytes, os.fsencode(group.members[0].path)
