"""Methods that ask the network again, with parts of the picture hidden: hundreds of forward passes a pair."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from retrieval.explain.gradcam import PairInputs, PixelAccess, split_signs, weighted_sum
from retrieval.explain.occlusion import blur
from retrieval.model.head import Array

_BATCH = 64
_WINDOW, _STEPS = 4, 9  # a window's side is a quarter of the picture's; so many positions along each side
_CELLS = 32  # a side of the sliding window's map
_EPSILON = 1e-8  # what the public package adds to the range of a channel


def score_cam(pairs: PairInputs) -> Array:
    """Score-CAM: Wang et al. (2020): a channel weighs what the pair's log-odds are when only its places are shown.

    The picture is multiplied with the channel's activations, enlarged and stretched from 0 to 1; the weights are the
    softmax of the log-odds, for the distance or against it. One forward pass a channel.
    """
    asked = _require_pixels(pairs)
    maps = [_score_maps(pairs, asked, place) for place in range(len(pairs.own))]
    return np.maximum(np.stack(maps, axis=1), 0)


def sbsm(pairs: PairInputs) -> Array:
    """SBSM: Dong et al. (2019): what the log-odds lose when a sliding window is hidden, a black-box method.

    A cell's value is the mean over the windows that cover it. Windows are blurred, not blackened, so that they bring
    in no edges of their own. 81 forward passes a pair; float32 (2, N, 32, 32).
    """
    asked = _require_pixels(pairs)
    return split_signs(np.stack([_window_map(pairs, asked, place) for place in range(len(pairs.own))]))


def _require_pixels(pairs: PairInputs) -> PixelAccess:
    if pairs.pixel_access is None:
        raise ValueError("this method asks the network again: give the pairs with their pixels")
    return pairs.pixel_access


def _score_maps(pairs: PairInputs, access: PixelAccess, place: int) -> Array:
    activations, picture = pairs.activations[place], access.pixels[place].astype(np.float32)
    masks = _min_max_scale(_upsample(activations, picture.shape[0]))
    blank = np.array(access.blank, np.float32)
    scores = _log_odds(pairs, access, place, (blank + (picture - blank) * mask[..., None] for mask in masks))
    return np.concatenate([weighted_sum(_softmax(sign * scores)[None], activations[None]) for sign in (1, -1)])


def _window_map(pairs: PairInputs, access: PixelAccess, place: int) -> Array:
    picture, hidden = (each.astype(np.float32) for each in (access.pixels[place], blur(access.pixels[place])))
    size = picture.shape[0]
    side = size // _WINDOW
    starts = np.linspace(0, size - side, _STEPS).round().astype(int)
    corners = [(top, left) for top in starts for left in starts]
    before = _log_odds(pairs, access, place, iter([picture]))[0]
    after = _log_odds(pairs, access, place, (_hide_window(picture, hidden, *corner, side) for corner in corners))
    total, count = np.zeros((2, _CELLS, _CELLS), np.float32)
    scale = _CELLS / size
    for (top, left), log_odds in zip(corners, after, strict=True):
        rows, columns = (slice(round(at * scale), round((at + side) * scale)) for at in (top, left))
        total[rows, columns] += before - log_odds
        count[rows, columns] += 1
    return np.asarray(total / count, np.float32)


def _hide_window(picture: Array, hidden: Array, top: int, left: int, side: int) -> Array:
    changed = picture.copy()
    window = (slice(top, top + side), slice(left, left + side))
    changed[window] = hidden[window]
    return changed


def _log_odds(pairs: PairInputs, access: PixelAccess, place: int, pictures: Iterator[Array]) -> Array:
    """w D of pictures against the other one of a pair, float32 (M,); the intercept is the same for all."""
    head, found = pairs.head, []
    u2 = head.embed(pairs.other[place])
    while batch := list(islice(pictures, _BATCH)):
        found.append(head.separation(head.embed(access.describe(batch)), u2))
    return np.asarray(head.slope * np.concatenate(found), np.float32)


def _upsample(maps: Array, size: int) -> Array:
    """(C, h, w) to (C, size, size), linear between places whose outermost lie on the picture's edges."""
    rows, columns = (_linear_weights(places, size) for places in maps.shape[1:])
    large: Array = np.einsum("sh,chw,tw->cst", rows, maps, columns, optimize=True)
    return large


def _linear_weights(places: int, size: int) -> Array:
    """What each of `size` pixels takes from each place, float32 (size, places)."""
    at = np.linspace(0, places - 1, size)
    return np.asarray(np.maximum(1 - np.abs(at[:, None] - np.arange(places)), 0), np.float32)


def _min_max_scale(maps: Array) -> Array:
    least, most = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    stretched: Array = (maps - least) / (most - least + np.float32(_EPSILON))
    return stretched


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum(), np.float32)
