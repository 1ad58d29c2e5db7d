"""The audit of a model on labelled pictures: where it looks, what it confuses, what to do (paper, sections 3.2, 4, 5).

A model can be right for a wrong reason: a watermark, a frame, a ruler that only one class has. Its factual heatmaps,
summed over many pairs, show what it looks at in a class. Together with the difference between training and unseen
pictures, that is the paper's evaluation of bias.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import GalleryError
from retrieval.common.progress import SILENT, Progress
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.near_duplicates import small_grey
from retrieval.datasets.pair_sampling import Codes, can_make_pairs, random_pairs, require_pairs
from retrieval.evaluation.audit.doubtful_pictures import find_look_alikes, find_suspect_labels
from retrieval.evaluation.audit.evidence import (
    AuditContext,
    draw_distinct_pairs,
    explain_all,
    explain_confusion,
    gather,
)
from retrieval.evaluation.audit.findings import (
    ALL,
    MIN_CLASS_PICTURES,
    TEST,
    TRAIN,
    Audit,
    AuditOptions,
    Findings,
    PartFindings,
)
from retrieval.evaluation.audit.recommendations import advise
from retrieval.evaluation.measure import EvaluatedModel
from retrieval.evaluation.verdicts import Confusions, find_confusions, pair_metrics
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array, Head

DEFAULT_AUDIT = AuditOptions()
CONFUSED = 3  # pairs of classes whose evidence is shown


@dataclass(frozen=True)
class _AuditRun:
    """A model and a data set: descriptors (N, C) and the part of each sample, (N,)."""

    encoder: Encoder
    dataset: DataSet
    descriptors: Array
    names: list[str]
    options: AuditOptions

    def rows(self, part: str) -> Codes:
        """Return the rows of a part's samples."""
        return np.flatnonzero([name == part for name in self.names])

    def context(self, part: str) -> AuditContext:
        """Return the model with a part's samples."""
        rows = self.rows(part)
        samples = [self.dataset.samples[row] for row in rows]
        return AuditContext(self.encoder, samples, self.descriptors[rows], self.options.method)


def audit_model(
    dataset: DataSet, model: EvaluatedModel, options: AuditOptions = DEFAULT_AUDIT, progress: Progress = SILENT
) -> Audit:
    """Audit a model on a data set, on its training pictures and on unseen ones separately.

    Raises GalleryError if there are no pairs of one class and of two.
    """
    started = time.perf_counter()
    require_pairs(dataset.codes, dataset.folder)
    grey: list[NDArray[np.int16]] = []
    dataset, (descriptors,) = describe_samples(
        dataset, [model.encoder], progress, lambda pixels: grey.append(small_grey(pixels))
    )
    require_pairs(dataset.codes, dataset.folder)
    names = name_parts(dataset, model.learnt)
    made = _AuditRun(model.encoder, dataset, descriptors, names, options)
    findings = Findings(
        parts=tuple(_audit_parts(made, progress)),
        sizes=dict(Counter(sample.label for sample in dataset.samples)),
        is_trained_on=TRAIN in names,
        look_alikes=find_look_alikes(dataset, np.stack(grey), names),
        suspect_labels=find_suspect_labels(dataset, model.encoder.bundle.head, descriptors),
        left_out=dataset.left_out,
    )
    fingerprint, seconds = model.encoder.bundle.fingerprint, time.perf_counter() - started
    return Audit(dataset.folder, model.name, fingerprint, options, findings, advise(findings), seconds)


def name_parts(dataset: DataSet, learnt: frozenset[str]) -> list[str]:
    """Return the part of each sample (N): `train` if the model has learnt from its content, else `test`.

    If it has learnt from none, all are in the part `all`.
    """
    known = [sample.hash in learnt for sample in dataset.samples]
    return [(TRAIN if each else TEST) if any(known) else ALL for each in known]


def _audit_parts(run: _AuditRun, progress: Progress) -> list[PartFindings]:
    """Audit the parts that have pairs of one class and of two; the last one with the evidence of its confusions."""
    judged = [name for name in (ALL, TRAIN, TEST) if can_make_pairs(run.dataset.codes[run.rows(name)])]
    if not judged:
        raise GalleryError(
            f"{run.dataset.folder} has too few pictures in each part of the model's split: give a larger one"
        )
    pairs = max(run.options.pairs // len(judged), 2)
    parts: list[PartFindings] = []
    for name in judged:
        parts.append(_audit_part(run, name, pairs, progress, parts[0] if parts else None))
    judge, last = run.context(parts[-1].name), parts[-1]
    with progress.stage("Explaining confusions", CONFUSED) as stage:
        confused = [
            explain_confusion(judge, each, run.options.seed, stage) for each in last.confusions.across[:CONFUSED]
        ]
    return [*parts[:-1], replace(last, confused_classes=tuple(each for each in confused if each))]


def _audit_part(
    run: _AuditRun, name: str, pairs: int, progress: Progress, reference: PartFindings | None
) -> PartFindings:
    """Audit the samples of a part. Each class, and all together, have the focus that they have in the `reference`."""
    judge = run.context(name)
    labels, codes = np.unique([sample.label for sample in judge.samples], return_inverse=True)
    with progress.stage(f"Explaining ({name})", pairs) as stage:
        explained = explain_all(judge, *draw_distinct_pairs(codes, pairs, run.options.seed), stage)
    focus = {each.label: each.focus for each in (reference.overall, *reference.classes)} if reference else {}
    overall = gather("", len(codes), judge.samples, explained, np.arange(len(explained.rows)), focus.get(""))
    if not overall.explained_pictures:
        raise GalleryError(f"{run.dataset.folder} has no two different pictures that can be explained: give others")
    found, sizes = codes[explained.rows], np.bincount(codes)
    classes = (
        gather(label, int(sizes[code]), judge.samples, explained, np.flatnonzero(found == code), focus.get(label))
        for code, label in enumerate(labels.tolist())
    )
    head = run.encoder.bundle.head
    return PartFindings(
        name=name,
        pictures=len(codes),
        explained_pairs=len(explained.rows) // 2,
        verdicts=pair_metrics(head, judge.descriptors, *random_pairs(codes, run.options.seed)),
        overall=overall,
        classes=tuple(each for each in classes if each.explained_pictures),
        confusions=_confusions(head, judge.descriptors, labels[codes]),
    )


def _confusions(head: Head, descriptors: Array, labels: NDArray[np.str_]) -> Confusions:
    """Find confusions among the classes with enough pictures, if there are two; else among all."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    enough = sizes >= MIN_CLASS_PICTURES
    kept = enough[codes] if enough.sum() > 1 else np.ones(len(labels), np.bool_)
    return find_confusions(head, descriptors[kept], labels[kept].tolist())
