"""The evidence of an audit: random and confused pairs of a data set, explained in batches."""

from dataclasses import dataclass
from itertools import compress

import numpy as np
from PIL import Image

from retrieval.common.parallel import batched
from retrieval.common.progress import SILENT_STAGE, WorkStage
from retrieval.common.settings import THRESHOLD, ExplainOptions, MethodName
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.pair_sampling import Codes, Flags, balanced_pairs
from retrieval.evaluation.audit.findings import MIN_CLASS_PICTURES, ConfusedClasses, Evidence, Example
from retrieval.evaluation.verdicts import Confusion, Confusions, find_confusions
from retrieval.explain.explanation import Explanation
from retrieval.explain.pair_explainer import PairExplainer
from retrieval.model.encoder import Encoder
from retrieval.model.head import Array
from retrieval.model.preprocessing import Pixels

CONFUSED_EXPLAINED = 24  # wrong pairs of two classes: enough for a mean, at a second
_EXAMPLES = 2
_MOST_OF_A_CLASS = 100  # compared with as many of the other, to find wrong pairs: 10,000 pairs take 50 MB
_BATCH = 16  # pairs
_GROUND = 64  # side in pixels of the small pictures whose mean stands behind a mean heatmap


@dataclass(frozen=True)
class ExplainedPairs:
    """Both pictures of P pairs: first all first ones, then all second ones.

    `rows` (2P,) are those of the samples, the heatmaps float32 (2P, h, w), at least 0; `similar` (2P,) is the verdict,
    and `small` has the pictures, uint8 (2P, 64, 64, 3).
    """

    rows: Codes
    factual: Array
    counterfactual: Array
    similar: Flags
    small: Pixels


@dataclass(frozen=True)
class AuditContext:
    """A model with a part of a data set, N samples, their descriptors (N, C), and the heatmap method."""

    encoder: Encoder
    dataset: DataSet
    descriptors: Array
    method: MethodName

    @property
    def confusions(self) -> Confusions:
        """The most confused classes of those with enough pictures to call them so."""
        codes = self.dataset.codes
        large = (np.bincount(codes) >= MIN_CLASS_PICTURES)[codes]
        compared = large if len(set(codes[large])) > 1 else np.full(len(codes), True)
        labels = [sample.label for sample in compress(self.dataset.samples, compared)]
        return find_confusions(self.encoder.bundle.head, self.descriptors[compared], labels)

    def gather(
        self, label: str, pictures: int, explained: ExplainedPairs, rows: Codes, focus: Flags | None = None
    ) -> Evidence:
        """Gather the evidence of these rows of the explained pairs.

        `pictures` is the size of the class in the part, `focus` its focus if that comes from another part.
        """
        codes = self.dataset.codes[explained.rows]
        same = codes == np.roll(codes, len(codes) // 2)  # the other picture of a pair is as far on as there are pairs
        small = explained.small[rows]
        return Evidence(
            label,
            pictures,
            tuple(self.dataset.samples[place] for place in explained.rows[rows]),
            explained.factual[rows],
            explained.counterfactual[rows],
            (same & explained.similar)[rows],
            small.mean(0).astype(np.uint8) if len(small) else np.full((_GROUND, _GROUND, 3), 128, np.uint8),
            focus,
        )


def draw_distinct_pairs(codes: Codes, count: int, seed: int) -> tuple[Codes, Codes]:
    """Draw at most `count` different pairs of pictures with classes `codes` (N,): half of one class, half of two.

    Classes are drawn evenly, so small classes give fewer pairs than large ones.
    """
    recoded = np.unique(codes, return_inverse=True)[1]
    first, second, _ = balanced_pairs(recoded, max(count // 2, 1), np.random.default_rng(seed))
    pairs = np.unique(np.sort(np.stack([first, second], axis=1), axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def explain_all(context: AuditContext, first: Codes, second: Codes, stage: WorkStage = SILENT_STAGE) -> ExplainedPairs:
    """Explain pairs, given by rows. Pairs with a picture that can no longer be read are left out."""
    explained: list[Explanation] = []
    places: list[Codes] = []
    small: list[list[Pixels]] = []
    head = context.encoder.bundle.head
    explainer = PairExplainer(context.encoder, head)
    for batch in batched(np.stack([first, second], axis=1), _BATCH):
        paths = ([context.dataset.samples[row].path for row in rows] for rows in zip(*batch, strict=True))
        pairs = context.encoder.decode_pairs(*paths)
        if count := len(pairs.rows):
            rows = np.array(batch, np.int64)[pairs.rows]
            explanations = explainer.explain_rows(
                [*pairs.first, *pairs.second],
                range(count),
                range(count, 2 * count),
                head.descriptor_distances(*context.descriptors[rows.T]),
                ExplainOptions(context.method),
            )
            for row, one, other, explanation in zip(rows, pairs.first, pairs.second, explanations, strict=True):
                if not explanation.identical:
                    explained.append(explanation)
                    places.append(row)
                    small.append([_small(one), _small(other)])
        stage.advance(len(batch))
    sides = [each.query for each in explained] + [each.hit for each in explained]
    maps = np.array([(side.factual, side.counterfactual) for side in sides] or np.zeros((0, 2, 1, 1)), np.float32)
    return ExplainedPairs(
        np.array(places, np.int64).reshape(-1, 2).T.ravel(),
        maps[:, 0],
        maps[:, 1],
        np.array([each.verdict == "similar" for each in explained] * 2, np.bool_),
        np.array(small, np.uint8).reshape(-1, 2, _GROUND, _GROUND, 3).swapaxes(0, 1).reshape(-1, _GROUND, _GROUND, 3),
    )


def explain_confusion(
    context: AuditContext, confusion: Confusion, seed: int, stage: WorkStage = SILENT_STAGE
) -> ConfusedClasses | None:
    """Explain pairs of two classes that are said similar: the mean evidence on both sides, and the most similar ones.

    Return None if the compared pictures have no such pair with evidence.
    """
    random = np.random.default_rng(seed)
    first, second = (_some_of(context, label, random) for label in (confusion.first, confusion.second))
    rows, columns = np.repeat(first, len(second)), np.tile(second, len(first))
    own, others = context.descriptors[first], context.descriptors[second]
    distances = context.encoder.bundle.head.descriptor_distances(own[:, None], others).ravel()
    wrong = np.flatnonzero(distances < THRESHOLD)
    drawn = random.choice(wrong, min(CONFUSED_EXPLAINED, len(wrong)), replace=False)
    nearest = _distinct(rows, columns, wrong[np.argsort(distances[wrong], kind="stable")])
    chosen = np.concatenate([nearest, np.setdiff1d(drawn, nearest)]).astype(np.int64)
    explained = explain_all(context, rows[chosen], columns[chosen])
    stage.advance()
    count = len(explained.rows) // 2
    sides = [
        context.gather(label, len(places), explained, np.arange(start, start + count))
        for label, places, start in ((confusion.first, first, 0), (confusion.second, second, count))
    ]
    if not all(side.explained_pictures for side in sides):
        return None
    shown = range(min(len(nearest), count))
    firsts, seconds = (
        [Example(side.samples[row].path, side.label, side.label, side.factual[row]) for row in shown] for side in sides
    )
    return ConfusedClasses(confusion, count, (sides[0], sides[1]), tuple(zip(firsts, seconds, strict=True)))


def _small(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((_GROUND, _GROUND), Image.Resampling.BOX))


def _some_of(context: AuditContext, label: str, random: np.random.Generator) -> Codes:
    """Return rows of pictures of a class; a sample if there are many."""
    places = np.flatnonzero(context.dataset.codes == context.dataset.classes.index(label))
    return random.choice(places, min(_MOST_OF_A_CLASS, len(places)), replace=False)


def _distinct(rows: Codes, columns: Codes, ordered: Codes) -> Codes:
    """Return the first of the ordered pairs of two classes that share no picture."""
    chosen: list[int] = []
    while len(ordered) and len(chosen) < _EXAMPLES:
        chosen.append(ordered[0])
        ordered = ordered[(rows[ordered] != rows[ordered[0]]) & (columns[ordered] != columns[ordered[0]])]
    return np.array(chosen, np.int64)
