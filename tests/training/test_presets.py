"""Tests of the presets and of a user's changes to them."""

from dataclasses import asdict

from retrieval.common.settings import PresetName
from retrieval.training.presets import FAST, PAPER, PRESETS, adapt_preset


def test_the_papers_preset_is_section_4() -> None:
    assert PRESETS[PresetName.paper] is PAPER
    assert (PAPER.backbone, PAPER.units, PAPER.loss, PAPER.pairing) == ("resnet50", 256, "contrastive", "random")
    assert not any((PAPER.normalize, PAPER.augment, PAPER.standardize, PAPER.bfloat16, PAPER.calibrate))
    assert (PAPER.shift, PAPER.frozen, PAPER.warm_up, PAPER.dropout, PAPER.weight_decay) == (None, 0, 0, 0, 0)


def test_without_choices_the_preset_is_unchanged() -> None:
    for preset in PRESETS.values():
        assert adapt_preset(preset, None, None, None, thaw=True, keep_general=False) == preset


def test_choices_replace_the_preset_s_values() -> None:
    chosen = adapt_preset(FAST, 3, "SupConLoss", "resnet50", thaw=True, keep_general=False)
    changed = {name for name, value in asdict(chosen).items() if value != asdict(FAST)[name]}
    assert changed == {"epochs", "loss", "backbone"}
    assert (chosen.epochs, chosen.loss, chosen.backbone) == (3, "SupConLoss", "resnet50")


def test_a_head_alone_keeps_the_backbone_and_its_input() -> None:
    head = adapt_preset(FAST, None, None, None, thaw=False, keep_general=False)
    assert (head.frozen, head.input_size, head.augment, head.warm_up) == (1.0, None, False, 0)
    assert head.epochs == 30
    assert adapt_preset(FAST, 4, None, None, thaw=False, keep_general=False).epochs == 4
    assert head.keep_general == 0


def test_keep_general_takes_the_default_model_s_architecture() -> None:
    held = adapt_preset(PAPER, None, None, None, thaw=True, keep_general=True)
    assert (held.backbone, held.normalize, held.shift, held.frozen) == ("efficientnet_lite0", True, 0.5, 1.0)
    assert held.keep_general > 0
