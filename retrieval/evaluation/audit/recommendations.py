"""Recommendations that follow from the findings of an audit, the most serious first."""

from collections.abc import Iterator, Mapping

import numpy as np

from retrieval.common.text import join_words, whole_percent
from retrieval.evaluation.audit.attention_advice import background_advice, crop_advice, shortcut_advice
from retrieval.evaluation.audit.findings import TEST, TRAIN, Advice, AdviceKind, Findings, PartFindings, Severity
from retrieval.evaluation.audit.picture_advice import PICTURE_RULES

GAP, WIDE_GAP = 0.1, 0.2  # of accuracy: twice, and four times, what a sound model of flowers loses on unseen pictures
CONFUSED_SHARE = 0.25  # of the pairs of two classes: half as bad as a coin
MISSED, ABOVE_OTHERS = 0.3, 1.5  # of the pairs of one class said different, and times what it is in all classes

_ORDER = [*Severity, *AdviceKind]


def advise(findings: Findings) -> tuple[Advice, ...]:
    """Return the recommendations, by severity; a single one that says so if nothing stands out."""
    main, caught = findings.main, list(shortcut_advice(findings))
    cheated = {label for each in caught for label in each.classes}
    found = [
        *caught,
        *background_advice(main, cheated),
        *_gap(findings),
        *([*_confused(main), *_missed(main)] if findings.knows_classes else [_untrained(main)]),
        *(advice for rule in PICTURE_RULES for advice in rule(findings)),
        *([] if cheated else crop_advice(main)),
    ]
    found.sort(key=lambda each: (_ORDER.index(each.severity), _ORDER.index(each.kind)))
    return tuple(found) or (_nothing(findings),)


def _gap(findings: Findings) -> Iterator[Advice]:
    """Report that training pictures are judged much better than unseen ones."""
    train, test = findings.part(TRAIN), findings.part(TEST)
    if not train or not test:
        return
    known, unknown = train.verdicts.accuracy, test.verdicts.accuracy
    chance = 2 * float(np.sqrt(unknown * (1 - unknown) / test.pictures))  # two standard errors
    if known - unknown <= max(GAP, chance):
        return
    yield Advice(
        AdviceKind.gap,
        Severity.serious if known - unknown > WIDE_GAP else Severity.moderate,
        f"The model is right on {whole_percent(known)} of the training pairs, and on {whole_percent(unknown)} of the"
        " unseen ones: it knows its training pictures by heart.",
        "Collect more pictures, train for fewer epochs or with augmentation, and look at the evidence in the training"
        " pictures.",
        figures={
            "accuracy_train": known,
            "accuracy_test": unknown,
            "roc_auc_train": train.verdicts.roc_auc,
            "roc_auc_test": test.verdicts.roc_auc,
        },
    )


def _untrained(part: PartFindings) -> Advice:
    worst = next(iter(part.confusions.across), None)
    confused = f" It confuses {worst.first} and {worst.second} most." if worst else ""
    return Advice(
        AdviceKind.untrained,
        Severity.serious,
        f"The model has not learnt from these pictures and is right on {whole_percent(part.verdicts.accuracy)} of their"
        f" pairs (ROC AUC {part.verdicts.roc_auc:.2f}; a coin has 0.50).{confused}",
        "Train a model on them with `retrieve train`, and audit that.",
        (worst.first, worst.second) if worst else (),
        {"accuracy": part.verdicts.accuracy, "roc_auc": part.verdicts.roc_auc},
        part.examples_of([each.confusion for each in part.confused_classes[:1]]),
    )


def _confused(part: PartFindings) -> Iterator[Advice]:
    """Report classes that are said similar too often."""
    found = [each for each in part.confusions.across if each.wrong >= CONFUSED_SHARE]
    if found:
        shares = {f"{each.first} and {each.second}": each.wrong for each in found}
        yield Advice(
            AdviceKind.confused,
            Severity.moderate,
            f"Pairs of two classes are said to be similar: {_list_shares(shares)} of them.",
            "Look at the evidence that they share: collect pictures of both that differ in it, or remove it from the"
            " pictures; if people cannot tell them apart either, make them one class.",
            tuple(dict.fromkeys(label for each in found for label in (each.first, each.second))),
            {"share_of_pairs_said_similar_by_classes": shares},
            part.examples_of(found),
        )


def _missed(part: PartFindings) -> Iterator[Advice]:
    """Report classes whose pictures are said different more often than usual."""
    usual = 1 - part.verdicts.recall
    limit = max(MISSED, ABOVE_OTHERS * usual)
    shares = {each.first: each.wrong for each in part.confusions.within if each.wrong >= limit}
    if shares:
        yield Advice(
            AdviceKind.collect,
            Severity.moderate,
            f"Pairs of one class are said to be different: {_list_shares(shares)} of them; in all classes together it"
            f" is {whole_percent(usual)}.",
            "Collect more pictures of these classes, above all of their rare kinds, or divide them.",
            tuple(shares),
            {"share_of_pairs_said_different_by_class": shares, "share_in_all_classes": usual},
        )


def _list_shares(shares: Mapping[str, float]) -> str:
    return join_words(f"of {name} {whole_percent(share)}" for name, share in shares.items())


def _nothing(findings: Findings) -> Advice:
    main = findings.main
    return Advice(
        AdviceKind.nothing,
        Severity.minor,
        f"Nothing stands out: the model is right on {whole_percent(main.verdicts.accuracy)} of the pairs, and looks"
        " where its classes have something in common.",
        "Nothing needs to be done.",
        figures={"accuracy": main.verdicts.accuracy, "roc_auc": main.verdicts.roc_auc},
    )
