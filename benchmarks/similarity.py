"""How true similarity is in galleries that nothing was fitted to: the model's own, and by the gallery's statistics.

Each folder of class folders is indexed by itself, less some pictures that are kept out to ask with. Verdicts are judged
on one pair of one class and one of two for each picture of the gallery; the order on all its pictures, each left out;
hits on the first five of the questions. The number of a hit is its probability, or its similarity where there is none.
`before` is what the store shows with the model's own similarity, `after` what it shows by its gallery's statistics, and
`calibrated` after `retrieve calibrate`; pairs are then judged by a neuron that was fitted to others.

With `--against`, questions that are foreign to a store: one of all folders is asked with pictures of those against it,
and the other way round. The store's own questions have others of their class there. A question is foreign if the most
familiar of its hits is less familiar than a limit.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support.galleries import gallery
from support.labelled import described, divided, drawn, indexed
from support.machine import facts, machine, versions, write
from support.reliability import draw

from retrieval.common.errors import GalleryError
from retrieval.common.metrics import Bin, calibration_error, reliability
from retrieval.datasets.class_folders import Sample
from retrieval.engine import Engine
from retrieval.evaluation.ranking import Evaluation, evaluate_head
from retrieval.explain.hit import Hit
from retrieval.store.similarity import set_plain

PICTURES, QUESTIONS, GENERATED = 1000, 300, 120
BEFORE, AFTER, CALIBRATED = "before", "after", "calibrated"
COVERAGE = 0.9
LIMITS = (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3)
TITLES = {
    "accuracy": "accuracy",
    "roc_auc": "AUC",
    "pair_error": "error of pairs",
    "hit_error": "of hits",
    "p_at_1": "P@1",
    "map_at_100": "mAP@100",
}
_FIRST, _SHOWN = 5, 10  # hits that are judged, and compared

Answers = list[list[Hit]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of class folders; else one is generated")
    parser.add_argument("--against", nargs="+", type=Path, default=[], help="others, for foreign questions")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"of each at most [default: {PICTURES}]")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help=f"kept out of each [default: {QUESTIONS}]")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw the reliability of pairs and hits there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folders, chosen.against, chosen.pictures, chosen.questions)
    print(report(result))
    if chosen.draw:
        draw(result["galleries"], chosen.draw)
    write(result, chosen.json)


def measure(
    folders: Sequence[Path], against: Sequence[Path] = (), most: int = PICTURES, questions: int = QUESTIONS
) -> dict[str, Any]:
    """Return the machine, the set-up, each gallery's figures, their means, and those of foreign questions."""
    with gallery(folders[0] if folders else None, GENERATED) as first:
        places = [first, *folders[1:]]
        galleries = {place.name if folders else "generated": judged(place, most, questions) for place in places}
        sides = [(places, against), (against, places)] if against else []
        foreign = [strange(store, others, questions) for store, others in sides]
    shown = next(iter(galleries.values()))["figures"]
    return {
        "machine": machine(),
        "setup": {**versions("openvino", "numpy"), "pictures at most": most, "questions at most": questions},
        "galleries": galleries,
        "means": {
            name: {
                figure: float(np.mean([each["figures"][name][figure] for each in galleries.values()]))
                for figure in figures
            }
            for name, figures in shown.items()
        },
        "foreign": foreign,
    }


def judged(folder: Path, most: int, questions: int) -> dict[str, Any]:
    """Return the figures of one gallery, the reliability of its pairs and hits, and how much of the order changes."""
    asking, kept = divided(drawn([folder]), most, questions)
    figures: dict[str, dict[str, float]] = {}
    bins: dict[str, dict[str, list[Bin]]] = {}
    answers: dict[str, Answers] = {}
    with indexed(kept) as engine:
        descriptors, labels = described(engine)
        for name in (BEFORE, AFTER):
            set_plain(engine.catalogue, name == BEFORE)
            found = evaluate_head(engine.store.head, descriptors, labels)
            answers[name] = found_for(engine, asking)
            said, right = numbers(asking, answers[name])
            figures[name] = {**_figures(found), "hit_error": calibration_error(said, right)}
            bins[name] = {"pairs": list(found.pairs.reliability), "hits": reliability(said, right)}
        scores = engine.calibrate().calibration.after
        said, right = numbers(asking, found_for(engine, asking))
        figures[CALIBRATED] = {
            "accuracy": scores.accuracy,
            "pair_error": scores.error,
            "hit_error": calibration_error(said, right),
        }
        coverage = covered(engine, asking)
    pairs = list(zip(*answers.values(), strict=True))
    return {
        "pictures": len(kept),
        "classes": len(set(labels)),
        "questions": len(asking),
        "figures": figures,
        "reliability": {
            name: {of: [vars(each) for each in found] for of, found in by.items()} for name, by in bins.items()
        },
        "coverage": coverage,
        "first hits that change": float(np.mean([old[0].id != new[0].id for old, new in pairs])),
        "of ten hits that stay": float(np.mean([_share_of_same(old, new) for old, new in pairs])),
    }


def found_for(engine: Engine, samples: Iterable[Sample]) -> Answers:
    """Return the first hits of each picture."""
    return [list(engine.query(sample.path, _SHOWN, explain=False)) for sample in samples]


def covered(engine: Engine, samples: Sequence[Sample]) -> dict[str, float] | None:
    """Return the realised coverage and the mean number of hits; None if the store's labels do not carry it."""
    try:
        answers = [engine.query(sample.path, coverage=COVERAGE, explain=False) for sample in samples]
    except GalleryError:
        return None
    right = [any(hit.label == sample.label for hit in hits) for sample, hits in zip(samples, answers, strict=True)]
    return {"realised": float(np.mean(right)), "hits": float(np.mean([len(hits) for hits in answers]))}


def numbers(asking: Iterable[Sample], answers: Answers) -> tuple[Any, Any]:
    """Return what is said of the first five hits of all questions, and whether they are of their class."""
    rows = [
        (hit.similarity if hit.probability is None else hit.probability, hit.label == sample.label)
        for sample, hits in zip(asking, answers, strict=True)
        for hit in hits[:_FIRST]
    ]
    said, right = zip(*rows, strict=True)
    return np.array(said, np.float64), np.array(right, np.bool_)


def strange(store: Sequence[Path], others: Sequence[Path], questions: int) -> dict[str, Any]:
    """Return the shares of a store's own questions, and of those from other folders, that are found to be foreign."""
    own, kept = divided(drawn(store), 10**9, questions)
    asking = {"own": own, **{folder.name: drawn([folder])[:questions] for folder in others}}
    with indexed(kept) as engine:
        found = {"after": _familiarity(engine, asking)}
        engine.calibrate()
        found["calibrated"] = _familiarity(engine, asking)
    return {
        "store": [folder.name for folder in store],
        "pictures": len(kept),
        "questions": {name: len(samples) for name, samples in asking.items()},
        "foreign": {
            state: {
                name: {str(limit): float(np.mean([each < limit for each in most])) for limit in LIMITS}
                for name, most in by_name.items()
            }
            for state, by_name in found.items()
        },
    }


def _familiarity(engine: Engine, asking: dict[str, list[Sample]]) -> dict[str, list[float]]:
    return {
        name: [max(hit.familiarity or 0.0 for hit in hits) for hits in found_for(engine, samples)]
        for name, samples in asking.items()
    }


def _figures(found: Evaluation) -> dict[str, float]:
    return {
        "accuracy": found.pairs.accuracy,
        "roc_auc": found.pairs.roc_auc,
        "pair_error": found.pairs.calibration_error,
        "p_at_1": found.rescored.p_at_1,
        "map_at_100": found.rescored.map_at_100,
    }


def _share_of_same(old: Sequence[Hit], new: Sequence[Hit]) -> float:
    return len({hit.id for hit in old} & {hit.id for hit in new}) / len(old)


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = facts(result)
    for name, found in result["galleries"].items():
        lines.append(
            f"{name}: {found['pictures']} pictures in {found['classes']} classes, {found['questions']} questions;"
            f" {found['first hits that change']:.3f} of the first hits change, {found['of ten hits that stay']:.3f} of"
            " ten stay"
        )
        lines += _figure_lines(found["figures"])
        if coverage := found["coverage"]:
            lines.append(f"  coverage of {COVERAGE}: {coverage['realised']:.3f} with {coverage['hits']:.2f} hits")
    lines += ["means", *_figure_lines(result["means"])]
    for found in result["foreign"]:
        lines.append(f"a store of {' and '.join(found['store'])}, {found['pictures']} pictures; foreign by limit are")
        for state, by_name in found["foreign"].items():
            lines += [
                f"  {state}, {name}: " + ", ".join(f"{limit} {share:.3f}" for limit, share in shares.items())
                for name, shares in by_name.items()
            ]
    return "\n".join(lines)


def _figure_lines(figures: dict[str, dict[str, float]]) -> list[str]:
    return [
        f"  {name}: " + ", ".join(f"{title} {found[key]:.3f}" for key, title in TITLES.items() if key in found)
        for name, found in figures.items()
    ]


if __name__ == "__main__":
    main()
