"""Audit a model on labelled pictures: where it looks, what it confuses, and what to do (paper, sections 3.2, 4, 5).

A model may be right for a wrong reason: a watermark, a frame, a ruler that lies in one class only. Its factual
heatmaps, summed up over many pairs, show what it looks at in a class; beside the difference between what it has learnt
from and what it has not, that is the paper's evaluation of bias.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import GalleryError
from retrieval.common.progress import Track, untracked
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.near_duplicates import small_grey
from retrieval.datasets.pair_sampling import Codes, makes_pairs, random_pairs
from retrieval.evaluation.audit.doubtful_pictures import repeats, suspects
from retrieval.evaluation.audit.evidence import Judge, confuse, draw_pairs, explain_all, gather
from retrieval.evaluation.audit.findings import ALL, LEAST_PICTURES, TEST, TRAIN, Audit, Evidence, Findings, Part, Terms
from retrieval.evaluation.audit.recommendations import advise
from retrieval.evaluation.measure import Subject
from retrieval.evaluation.verdicts import Confusions, confusions, pair_figures
from retrieval.model.encoder import Comparer
from retrieval.model.head import Array, Head

PLAIN_TERMS = Terms()
CONFUSED = 3  # pairs of classes whose evidence is shown


@dataclass(frozen=True)
class _Subject:
    """A model before a data set: descriptors (N, C) and the part of each sample, (N,)."""

    comparer: Comparer
    dataset: DataSet
    descriptors: Array
    names: list[str]
    terms: Terms

    def rows(self, part: str) -> Codes:
        """The places of a part's samples."""
        return np.flatnonzero([name == part for name in self.names])

    def judge(self, part: str) -> Judge:
        """The model with a part's samples."""
        rows = self.rows(part)
        samples = [self.dataset.samples[row] for row in rows]
        return Judge(self.comparer, samples, self.descriptors[rows], self.terms.method)


def audit(dataset: DataSet, subject: Subject, terms: Terms = PLAIN_TERMS, track: Track = untracked) -> Audit:
    """Audit a model on a data set, in what it has learnt from and what it has not, as its split says.

    Raises GalleryError where there are no pairs of one class and of two.
    """
    started = time.perf_counter()
    _check(dataset)
    grey: list[NDArray[np.int16]] = []
    with track("Embedding", len(dataset.samples)) as advance:
        dataset, (descriptors,) = describe_samples(
            dataset, [subject.comparer], advance, lambda pixels: grey.append(small_grey(pixels))
        )
    _check(dataset)
    names = part_names(dataset, subject.learnt)
    made = _Subject(subject.comparer, dataset, descriptors, names, terms)
    findings = Findings(
        parts=tuple(_parts(made, track)),
        sizes=dict(Counter(sample.label for sample in dataset.samples)),
        learns=TRAIN in names,
        repeats=repeats(dataset, np.stack(grey), names),
        suspects=suspects(dataset, subject.comparer.bundle.head, descriptors),
        left_out=dataset.left_out,
    )
    fingerprint, seconds = subject.comparer.bundle.fingerprint, time.perf_counter() - started
    return Audit(dataset.folder, subject.name, fingerprint, terms, findings, advise(findings), seconds)


def part_names(dataset: DataSet, learnt: frozenset[str]) -> list[str]:
    """The part of each sample (N): `train` where the model has learnt from its content, else `test`.

    Where it has learnt from none, all are in the part `all`.
    """
    known = [sample.hash in learnt for sample in dataset.samples]
    return [(TRAIN if each else TEST) if any(known) else ALL for each in known]


def _check(dataset: DataSet) -> None:
    if not makes_pairs(dataset.codes):
        sizes = np.bincount(dataset.codes)
        raise GalleryError(
            f"{dataset.folder} has {len(sizes)} class folders and at most {sizes.max(initial=0)} pictures in one: give"
            " at least two classes, one of them with two pictures"
        )


def _parts(made: _Subject, track: Track) -> list[Part]:
    """The parts that hold pairs of one class and of two; the last one with the evidence of what it confuses."""
    judged = [name for name in (ALL, TRAIN, TEST) if makes_pairs(made.dataset.codes[made.rows(name)])]
    if not judged:
        raise GalleryError(
            f"{made.dataset.folder} has too few pictures in each part of the model's split: give a larger one"
        )
    pairs = max(made.terms.pairs // len(judged), 2)
    parts = _on_common_ground([_part(made, name, pairs, track) for name in judged])
    judge, last = made.judge(parts[-1].name), parts[-1]
    with track("Explaining confusions", CONFUSED) as advance:
        confused = [confuse(judge, each, made.terms.seed, advance) for each in last.confusions.across[:CONFUSED]]
    return [*parts[:-1], replace(last, confused=tuple(each for each in confused if each))]


def _part(made: _Subject, name: str, pairs: int, track: Track) -> Part:
    """What is found in the samples of a part."""
    judge = made.judge(name)
    labels, codes = np.unique([sample.label for sample in judge.samples], return_inverse=True)
    with track(f"Explaining ({name})", pairs) as advance:
        explained = explain_all(judge, *draw_pairs(codes, pairs, made.terms.seed), advance)
    overall = gather("", len(codes), judge.samples, explained, np.arange(len(explained.places)))
    if not overall.explained:
        raise GalleryError(f"{made.dataset.folder} has no two different pictures that can be explained: give others")
    found, sizes = codes[explained.places], np.bincount(codes)
    classes = (
        gather(str(label), int(sizes[code]), judge.samples, explained, np.flatnonzero(found == code))
        for code, label in enumerate(labels)
    )
    head = made.comparer.bundle.head
    return Part(
        name=name,
        pictures=len(codes),
        explained=len(explained.places) // 2,
        verdicts=pair_figures(head, judge.descriptors, *random_pairs(codes, made.terms.seed)),
        overall=overall,
        classes=tuple(each for each in classes if each.explained),
        confusions=_confusions(head, judge.descriptors, labels[codes]),
    )


def _confusions(head: Head, descriptors: Array, labels: NDArray[np.str_]) -> Confusions:
    """Those among classes with enough pictures to say something of them, if there are two; else among all."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    enough = sizes >= LEAST_PICTURES
    kept = enough[codes] if enough.sum() > 1 else np.ones(len(labels), np.bool_)
    return confusions(head, descriptors[kept], labels[kept].tolist())


def _on_common_ground(parts: Sequence[Part]) -> list[Part]:
    """The later parts with the focus that each class, and all together, have in the first one."""
    first, *others = parts
    focus = {each.label: each.focus for each in (first.overall, *first.classes)}

    def moved(evidence: Evidence) -> Evidence:
        return replace(evidence, common=focus.get(evidence.label))

    return [
        first,
        *(
            replace(part, overall=moved(part.overall), classes=tuple(moved(each) for each in part.classes))
            for part in others
        ),
    ]
