"""The audit of a model on labelled pictures: where it looks, what it confuses, what to do (paper, sections 3.2, 4, 5).

A model can be right for a wrong reason: a watermark, a frame, a ruler that only one class has. Its factual heatmaps,
summed over many pairs, show what it looks at in a class. Together with the difference between training and unseen
pictures, that is the paper's evaluation of bias.
"""

import time
from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retrieval.common.errors import GalleryError
from retrieval.common.progress import SILENT, Progress
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.descriptors import describe_samples
from retrieval.datasets.near_duplicates import small_grey
from retrieval.datasets.pair_sampling import can_make_pairs, random_pairs, require_pairs
from retrieval.evaluation.audit.doubtful_pictures import find_look_alikes, find_suspect_labels
from retrieval.evaluation.audit.evidence import AuditContext, draw_distinct_pairs, explain_all, explain_confusion
from retrieval.evaluation.audit.findings import ALL, TEST, TRAIN, Audit, AuditOptions, Findings, PartFindings
from retrieval.evaluation.audit.recommendations import advise
from retrieval.evaluation.measure import EvaluatedModel
from retrieval.evaluation.verdicts import pair_metrics

CONFUSED = 3  # pairs of classes whose evidence is shown


def audit_model(dataset: DataSet, model: EvaluatedModel, options: AuditOptions, progress: Progress = SILENT) -> Audit:
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
    names, own_parts = name_parts(dataset, model.learnt), folder_parts(dataset)
    contexts = {}
    for name in (ALL, TRAIN, TEST):
        rows = np.flatnonzero(np.array(names) == name)
        part = replace(dataset, samples=tuple(dataset.samples[row] for row in rows))
        if can_make_pairs(part.codes):
            contexts[name] = AuditContext(model.encoder, part, descriptors[rows], options.method)
    if not contexts:
        raise GalleryError(
            f"{dataset.folder} has too few pictures in each part of the model's split: give a larger one"
        )
    findings = Findings(
        parts=_audit_parts(contexts, options, progress),
        sizes=dict(Counter(sample.label for sample in dataset.samples)),
        is_trained_on=TRAIN in names,
        look_alikes=find_look_alikes(dataset, np.stack(grey), own_parts or names),
        suspect_labels=find_suspect_labels(dataset, model.encoder.bundle.head, descriptors),
        left_out=dataset.left_out,
        tested=own_parts.count(TEST),
    )
    fingerprint, seconds = model.encoder.bundle.fingerprint, time.perf_counter() - started
    return Audit(dataset.folder, model.name, fingerprint, options, findings, advise(findings), seconds)


def name_parts(dataset: DataSet, learnt: frozenset[str]) -> list[str]:
    """Return the part of each sample (N): `train` if the model has learnt from its content, else `test`.

    If it has learnt from none, all are in the part `all`.
    """
    known = [sample.hash in learnt for sample in dataset.samples]
    return [(TRAIN if each else TEST) if any(known) else ALL for each in known]


def folder_parts(dataset: DataSet) -> list[str]:
    """Return the part of each sample (N) by the folders of the data set: `train`, or else `test`; empty without."""
    parts = [dataset.folder_parts.get(sample.hash) for sample in dataset.samples] if dataset.folder_parts else []
    return [TRAIN if part == TRAIN else TEST for part in parts]


def _audit_parts(
    contexts: dict[str, AuditContext], options: AuditOptions, progress: Progress
) -> tuple[PartFindings, ...]:
    """Audit parts that have pairs of one class and of two; the last one with the evidence of its confusions."""
    pairs = max(options.pairs // len(contexts), 2)
    parts: list[PartFindings] = []
    for name, context in contexts.items():
        parts.append(_judge_part(context, name, pairs, options.seed, parts[0] if parts else None, progress))
    last = parts.pop()
    with progress.stage("Explaining confusions", CONFUSED) as stage:
        confused = [explain_confusion(context, each, options.seed, stage) for each in last.confusions.across[:CONFUSED]]
    return (*parts, replace(last, confused_classes=tuple(each for each in confused if each)))


def _judge_part(
    context: AuditContext, name: str, pairs: int, seed: int, reference: PartFindings | None, progress: Progress
) -> PartFindings:
    """Judge a part by at most so many pairs. Each class, and all together, have their focus in `reference`, if any."""
    dataset, codes = context.dataset, context.dataset.codes
    with progress.stage(f"Explaining ({name})", pairs) as stage:
        explained = explain_all(context, *draw_distinct_pairs(codes, pairs, seed), stage)
    focus = {each.label: each.focus for each in (reference.overall, *reference.classes)} if reference else {}
    overall = context.gather("", len(codes), explained, np.arange(len(explained.rows)), focus.get(""))
    if not overall.explained_pictures:
        raise GalleryError(f"{dataset.folder} has no two different pictures that can be explained: give others")
    sizes = np.bincount(codes)
    classes = (
        context.gather(label, size, explained, np.flatnonzero(codes[explained.rows] == code), focus.get(label))
        for code, (label, size) in enumerate(zip(dataset.classes, sizes.tolist(), strict=True))
    )
    return PartFindings(
        name=name,
        pictures=len(codes),
        explained_pairs=len(explained.rows) // 2,
        verdicts=pair_metrics(context.encoder.bundle.head, context.descriptors, *random_pairs(codes, seed)),
        overall=overall,
        classes=tuple(each for each in classes if each.explained_pictures),
        confusions=context.confusions,
    )
