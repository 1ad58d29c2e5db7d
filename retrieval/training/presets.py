"""Presets of a training: the paper's, and a fast one that two CPU cores can afford. Needs no torch."""

from dataclasses import dataclass, replace

from retrieval.common.settings import PresetName

_HEAD_EPOCHS = 30  # each takes a second
_KEEP_GENERAL = 20.0  # weight of the change of cosines

ROOT_SHIFT = 0.5
"""The shift of descriptors before their root. A smaller one ranked as well, but cost the skin lesions of the test sets
0.8 points of P@1."""


@dataclass(frozen=True)
class Preset:
    """All settings of a training. Beside those that are not the paper's is the reason."""

    backbone: str
    loss: str  # see `losses.build_loss`
    pairing: str  # "random": pairs as in section 4, drawn anew each epoch; "all": all pairs of a batch
    epochs: int  # at most
    batch: int  # pictures that go through the backbone at once
    rate: float  # Adam's learning rate of the backbone
    head_rate: float
    schedule: str  # "plateau": lowered, and stopped, if validation gets no better; "cosine": up, then down
    units: int = 256
    input_size: int | None = None  # of the network; None: the backbone's usual one
    chunk: int = 5  # pictures of one class that come together in a batch, with pairing "all"
    hardest: float = 1.0  # share of a batch's pairs of each kind that count in the second half, for the loss "pairs"
    normalize: bool = False  # embeddings at unit length
    shift: float | None = None  # descriptors as sqrt(g + shift)
    standardize: bool = False  # descriptors of mean 0 and spread 1 before the dense layer, into which it is folded
    calibrate: bool = False  # the sigmoid neuron fitted anew on the validation part
    warm_up: int = 0  # epochs of the head alone, on descriptors that were computed once
    frozen: float = 0.0  # share of the backbone's stages, from the input on, that are not trained
    frozen_statistics: bool = False  # batch normalisation keeps ImageNet's statistics
    augment: bool = False
    size: int | None = None  # of augmented pictures; None: the network's
    dropout: float = 0.0  # of descriptors
    weight_decay: float = 0.0
    average: float = 0.0  # decay of the running mean of the weights, which is the trained model; 0 for none
    bfloat16: bool = False  # if the device computes in it
    keep_general: float = 0.0  # weight of staying near the initial head's cosines; 0: no initial head


PAPER = Preset(
    backbone="resnet50",
    loss="contrastive",
    pairing="random",
    epochs=50,
    batch=48,  # 16 pictures, each with one of its class and one of another
    rate=1e-4,
    head_rate=1e-4,
    schedule="plateau",
)

FAST = Preset(
    backbone="efficientnet_lite0",
    loss="pairs",
    pairing="all",
    epochs=8,
    batch=50,
    rate=3e-4,
    head_rate=1e-3,
    schedule="cosine",
    input_size=288,
    normalize=True,
    shift=ROOT_SHIFT,
    standardize=True,
    calibrate=True,
    warm_up=30,
    frozen=0.36,  # the first stages take most of the time, and know edges and colours already
    frozen_statistics=True,
    augment=True,
    size=224,  # crops enlarge things: trained at 224, they are as large as in whole pictures at 288
    dropout=0.2,
    weight_decay=0.02,
    average=0.995,
    bfloat16=True,
)

PRESETS = {PresetName.fast: FAST, PresetName.paper: PAPER}


def adapt_preset(
    preset: Preset,
    epochs: int | None = None,
    loss: str | None = None,
    backbone: str | None = None,
    thaw: bool = True,
    keep_general: bool = False,
    hardest: float = 1.0,
) -> Preset:
    """Return the preset with a user's settings; None keeps the preset's.

    Without `thaw` the backbone is not trained, so that an index of its descriptors stays valid. `keep_general` goes
    further: it starts from the default model's head, and keeps similarities near to what they were.
    """
    if keep_general or not thaw:
        preset = replace(
            preset, input_size=None, frozen=1.0, augment=False, warm_up=0, average=0.0, epochs=_HEAD_EPOCHS
        )
    if keep_general:
        preset = replace(preset, backbone=FAST.backbone, normalize=True, shift=ROOT_SHIFT, keep_general=_KEEP_GENERAL)
    return replace(
        preset,
        epochs=epochs or preset.epochs,
        loss=loss or preset.loss,
        backbone=backbone or preset.backbone,
        hardest=hardest,
    )
