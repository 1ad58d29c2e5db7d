"""Audit a model on labelled pictures: where it looks, what it confuses, and what to do (paper, sections 3.2, 4, 5).

A model may be right for a wrong reason: a watermark, a frame, a ruler that lies in one class only. Its factual
heatmaps, summed up over many pairs, show what it looks at in a class; beside the difference between what it has learnt
from and what it has not, that is the paper's evaluation of bias.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retrieval.advice import advise
from retrieval.audit_evidence import Judge, confuse, draw_pairs, explain_all, gather
from retrieval.audit_pictures import repeats, suspects
from retrieval.audited import ALL, LEAST_PICTURES, TEST, TRAIN, Audit, Confused, Evidence, Findings, Part, Terms
from retrieval.crop import Track, untracked
from retrieval.errors import GalleryError
from retrieval.head import Array, Head
from retrieval.measure import Subject, describe_samples
from retrieval.pairs import Codes, makes_pairs, random_pairs
from retrieval.samples import DataSet
from retrieval.split import small_grey
from retrieval.verdicts import Confusions, confusions, pair_figures

PLAIN_TERMS = Terms()
CONFUSED = 3  # pairs of classes whose evidence is shown


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
    judged = [name for name in (ALL, TRAIN, TEST) if makes_pairs(dataset.codes[_rows(names, name)])]
    if not judged:
        raise GalleryError(
            f"{dataset.folder} has too few pictures in each part of the model's split: give a larger one"
        )
    pairs = max(terms.pairs // len(judged), 2)
    parts = [
        _part(dataset, subject, descriptors, _rows(names, name), replace(terms, pairs=pairs), name, track)
        for name in judged
    ]
    parts = _on_common_ground(parts)
    parts[-1] = replace(parts[-1], confused=_confused(dataset, subject, descriptors, names, parts[-1], terms))
    findings = Findings(
        parts=tuple(parts),
        sizes=dict(Counter(sample.label for sample in dataset.samples)),
        learns=TRAIN in names,
        repeats=repeats(dataset, np.stack(grey), names),
        suspects=suspects(dataset, subject.comparer.bundle.head, descriptors),
        left_out=dataset.left_out,
    )
    fingerprint = subject.comparer.bundle.fingerprint
    seconds = time.perf_counter() - started
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


def _rows(names: Sequence[str], wanted: str) -> Codes:
    return np.flatnonzero([name == wanted for name in names])


def _part(
    dataset: DataSet, subject: Subject, descriptors: Array, rows: Codes, terms: Terms, name: str, track: Track
) -> Part:
    """What is found in the samples of these rows."""
    samples, own = [dataset.samples[row] for row in rows], descriptors[rows]
    labels, codes = np.unique([sample.label for sample in samples], return_inverse=True)
    head = subject.comparer.bundle.head
    first, second = draw_pairs(codes, terms.pairs, terms.seed)
    with track(f"Explaining ({name})", len(first)) as advance:
        explained = explain_all(Judge(subject.comparer, samples, own, terms.method), first, second, advance)
    overall = gather("", len(samples), samples, explained, np.arange(len(explained.places)))
    if not overall.explained:
        raise GalleryError(f"{dataset.folder} has no two different pictures that can be explained: give others")
    found, sizes = codes[explained.places], np.bincount(codes)
    classes = (
        gather(str(label), int(sizes[code]), samples, explained, np.flatnonzero(found == code))
        for code, label in enumerate(labels)
    )
    return Part(
        name=name,
        pictures=len(samples),
        explained=len(explained.places) // 2,
        verdicts=pair_figures(head, own, *random_pairs(codes, terms.seed)),
        overall=overall,
        classes=tuple(each for each in classes if each.explained),
        confusions=_confusions(head, own, labels[codes]),
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


def _confused(
    dataset: DataSet, subject: Subject, descriptors: Array, names: Sequence[str], part: Part, terms: Terms
) -> tuple[Confused, ...]:
    """The evidence on which the most confused classes of a part are confused."""
    rows = _rows(names, part.name)
    judge = Judge(subject.comparer, [dataset.samples[row] for row in rows], descriptors[rows], terms.method)
    found = (confuse(judge, confusion, terms.seed) for confusion in part.confusions.across[:CONFUSED])
    return tuple(each for each in found if each)
