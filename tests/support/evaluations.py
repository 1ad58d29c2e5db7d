"""Figures of evaluations, and a name that would harm a page."""

import numpy as np

from retrieval.evaluation.ranking import Evaluation, evaluate_head
from retrieval.model.head import Head

EVIL = '"><img onerror=alert(1)>\udcff'

ONE = Head(np.array([[1, 0]], np.float32), np.zeros(1, np.float32), slope=1.0, intercept=-1.5, normalize=False)


def figures(labels: list[str]) -> Evaluation:
    descriptors = np.array([[0, 1], [2, 9], [0.5, 9], [9, 5], [9.5, 5], [7, 5]], np.float32)
    return evaluate_head(ONE, descriptors, labels)
