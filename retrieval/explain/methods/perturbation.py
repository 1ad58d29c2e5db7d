"""Methods that run the network on pictures with hidden parts: hundreds of forward passes per pair."""

from collections.abc import Iterable
from itertools import product

import numpy as np

from retrieval.common.parallel import batched
from retrieval.explain.hiding import blur
from retrieval.explain.methods.gradcam import PairInputs, PixelAccess, require_pixels, split_signs, weighted_sum
from retrieval.model.head import Array

_BATCH = 64
_WINDOW, _STEPS = 4, 9  # a window's side is a quarter of the picture's; so many positions along each side
_CELLS = 32  # on each side of the sliding window's map
_EPSILON = 1e-8  # added by the public package to the range of a channel


def score_cam(pairs: PairInputs) -> Array:
    """Compute Score-CAM: Wang et al. (2020): a channel weighs the pair's log-odds when only its cells are shown.

    The picture is multiplied by the channel's activations, enlarged and stretched from 0 to 1; the weights are the
    softmax of the log-odds, for the distance or against it. One forward pass per channel.
    """
    access = require_pixels(pairs)
    maps = [_score_maps(pairs, access, row) for row in range(len(pairs.own))]
    return np.maximum(np.stack(maps, axis=1), 0)


def sbsm(pairs: PairInputs) -> Array:
    """Compute SBSM: Dong et al. (2019): what the log-odds lose when a sliding window is hidden, a black-box method.

    A cell's value is the mean over the windows that cover it. Windows are blurred, not blackened, so that they add no
    edges of their own. 81 forward passes per pair; float32 (2, N, 32, 32).
    """
    access = require_pixels(pairs)
    return split_signs(np.stack([_window_map(pairs, access, row) for row in range(len(pairs.own))]))


def _score_maps(pairs: PairInputs, access: PixelAccess, row: int) -> Array:
    activations, picture = pairs.activations[row], access.pixels[row].astype(np.float32)
    masks = _upsample(activations, picture.shape[0])
    masks -= masks.min((1, 2), keepdims=True)
    masks /= masks.max((1, 2), keepdims=True) + np.float32(_EPSILON)
    blank = np.array(access.blank, np.float32)
    scores = _log_odds(pairs, access, row, (blank + (picture - blank) * mask[..., None] for mask in masks))
    return np.concatenate([weighted_sum(_softmax(sign * scores)[None], activations[None]) for sign in (1, -1)])


def _window_map(pairs: PairInputs, access: PixelAccess, row: int) -> Array:
    picture, hidden = (each.astype(np.float32) for each in (access.pixels[row], blur(access.pixels[row])))
    size = picture.shape[0]
    side = size // _WINDOW
    spans = [slice(start, start + side) for start in np.linspace(0, size - side, _STEPS).round().astype(int)]
    windows = list(product(spans, spans))
    before = _log_odds(pairs, access, row, [picture])[0]
    after = _log_odds(pairs, access, row, (_hide_window(picture, hidden, window) for window in windows))
    total, count = np.zeros((2, _CELLS, _CELLS), np.float32)
    scale = _CELLS / size
    for window, log_odds in zip(windows, after, strict=True):
        rows, columns = (slice(round(span.start * scale), round(span.stop * scale)) for span in window)
        total[rows, columns] += before - log_odds
        count[rows, columns] += 1
    return np.asarray(total / count, np.float32)


def _hide_window(picture: Array, hidden: Array, window: tuple[slice, slice]) -> Array:
    changed = picture.copy()
    changed[window] = hidden[window]
    return changed


def _log_odds(pairs: PairInputs, access: PixelAccess, row: int, pictures: Iterable[Array]) -> Array:
    """Return w D of pictures against the other one of a pair, float32 (M,); the intercept is the same for all."""
    head = pairs.head
    u2 = head.embed(pairs.other[row])
    parts = [head.separation(head.embed(access.describe(batch)), u2) for batch in batched(pictures, _BATCH)]
    return np.asarray(head.slope * np.concatenate(parts), np.float32)


def _upsample(maps: Array, size: int) -> Array:
    """Enlarge (C, h, w) to (C, size, size), linearly between cells whose outermost lie on the picture's edges."""
    rows, columns = (_linear_weights(cells, size) for cells in maps.shape[1:])
    return np.asarray(np.einsum("sh,chw,tw->cst", rows, maps, columns, optimize=True))


def _linear_weights(cells: int, size: int) -> Array:
    """Return the weight of each cell in each of `size` pixels, float32 (size, cells)."""
    positions = np.linspace(0, cells - 1, size)
    return np.asarray(np.maximum(1 - np.abs(positions[:, None] - np.arange(cells)), 0), np.float32)


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum(), np.float32)
