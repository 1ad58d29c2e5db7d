"""Explanations of pictures whose activations a test has made by hand."""

import numpy as np

from retrieval.common.settings import MethodName
from retrieval.explain.explanation import Explanation, explain_pairs, pair_inputs
from retrieval.model.head import Head
from retrieval.model.inference import Features


def explain_against(
    head: Head, query: Features, hits: Features, method: MethodName = MethodName.gradcam
) -> list[Explanation]:
    """One picture against each of some others, with the distances of their own descriptors."""
    distances = head.descriptor_distances(query.descriptors, hits.descriptors)
    together = Features(
        np.concatenate([query.activations, hits.activations]), np.concatenate([query.descriptors, hits.descriptors])
    )
    return explain_pairs(
        pair_inputs(head, together, [0] * len(distances), range(1, len(distances) + 1)), distances, method
    )
