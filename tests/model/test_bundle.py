"""Bundles by name and by folder: what is no bundle is refused in one sentence."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from retrieval.common.errors import ModelError
from retrieval.model.bundle import Bundle, find_bundle, sealed, shipped_bundles
from tests.support.bundles import Tensors
from tests.support.command import PROJECT
from tests.support.flips import flipped
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

HEAD = ("dense.weight", "dense.bias", "output.weight", "output.bias")
NEURON: dict[str, Any] = {"centre": 0.8, "slope": [15.0, 0.6], "intercept": [-22.0, -0.7], "hit": [1.4, 2.4]}
PREPROCESSINGS: list[Any] = [None, [], {}, {"size": 8}]
SLOPES: list[Any] = [[1], "12", {"0": 1}, [10**400, 1]]
_FIND = """
import sys
from retrieval.model.bundle import find_bundle
from retrieval.common.errors import ModelError
try:
    find_bundle(sys.argv[1])
except ModelError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "changed",
    [
        *({"provenance": None}, {"metrics": None}, {"metrics": {"a": None}}, {"metrics": {"a": {"p_at_1": "0.9"}}}),
        *({"name": 3}, {"backbone": None}, {"units": 0}, {"units": "8"}, {"units": True}, {"normalize": "no"}),
        *({"preprocessing": {"size": size, "mean": [0] * 3, "std": [1] * 3}} for size in (0, -1, 2.5, "224")),
        *({"preprocessing": {"size": 8, "mean": mean, "std": [1] * 3}} for mean in ([0, 0], "000", [None] * 3)),
        *({"format": "1"}, {"shift": "x"}, {"shift": math.nan}, {"shift": 10**400}, {"units": 10**9}, {"digests": []}),
        *({"backbone": name} for name in ("hf-hub:a/b", "local-dir:/etc", "../x", "a b", "", "x" * 200)),
        *({"preprocessing": {"size": 8, "mean": [0] * 3, "std": std}} for std in ([0] * 3, [1, 1, -1], [math.inf] * 3)),
        *({"preprocessing": value} for value in PREPROCESSINGS),
        *({"gallery_neuron": NEURON | value} for value in ({"slope": [-1, 1]}, {"hit": [0, 0]}, {"centre": math.nan})),
        *({"gallery_neuron": NEURON | {"slope": value}} for value in SLOPES),
        {"gallery_neuron": [1]},
    ],
    ids=lambda changed: json.dumps(changed)[:60],
)
def test_a_card_of_other_types_is_refused(changed: dict[str, Any], tiny_bundle: Bundle, tmp_path: Path) -> None:
    values = json.loads((tiny_bundle.folder / "model.json").read_text("utf-8"))
    del values["digests"]  # as one that a stranger made has none, or its own
    (tmp_path / "model.json").write_text(json.dumps(values | changed), "utf-8")
    with pytest.raises(ModelError, match=r"model\.json is not a model card \(.*\): give another bundle"):
        find_bundle(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"[]", b"", b"{", b"[" * 100_000, b'"\xfc"', b"\0" * 10, b" " * 2_000_000, b"1e999"]
)
def test_a_card_that_is_no_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match="is not a model card") as raised:
        find_bundle(str(tmp_path))
    assert len(str(raised.value)) < 500


def test_a_flipped_bit_in_a_card_changes_nothing_or_is_seen(tiny_bundle: Bundle, tmp_path: Path) -> None:
    card = (tiny_bundle.folder / "model.json").read_bytes()
    expected, refused = replace(tiny_bundle.card, digests={}), 0
    for bit in np.random.default_rng(0).choice(8 * len(card), 300, replace=False).tolist():
        (tmp_path / "model.json").write_bytes(flipped(card, bit))
        try:
            assert replace(find_bundle(str(tmp_path)).card, digests={}) == expected
        except ModelError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("part", [b"backbone.conv_stem.weight", b"backbone.bn2.bias", b"dense.weight", b"output.bias"])
def test_a_flipped_bit_in_the_weights_is_seen(part: bytes, tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = copied(tiny_bundle, tmp_path / "b")
    content, header = bundle.weights_file.read_bytes(), json.loads(bundle.weights_header)
    start = 8 + len(bundle.weights_header) + header[part.decode()]["data_offsets"][0]
    bundle.weights_file.write_bytes(flipped(content, 8 * start + 9))
    with pytest.raises(
        ModelError, match=r"weights\.safetensors is damaged, as the .*'s checksum shows: get the bundle"
    ):
        assert bundle.fingerprint + bundle.head.digest


@pytest.mark.parametrize(
    "alter",
    [
        *(lambda t, n=n, v=v: t[n].__setitem__(slice(None), v) for n in HEAD for v in (math.nan, math.inf)),
        *(lambda t, n=n: t.__setitem__(n, np.ones((7, 9), np.float32)) for n in HEAD),
        *(lambda t, n=n: t.pop(n) for n in HEAD),
        *(lambda t, v=v: t["output.weight"].__setitem__(slice(None), v) for v in (0, -10)),
        lambda t: t["dense.weight"].__setitem__(slice(None), 0),
    ],
)
def test_a_strangers_head_is_looked_at(alter: Callable[[Tensors], None], tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = undigested(copied(tiny_bundle, tmp_path / "b"))
    tensors = load_file(bundle.weights_file)
    alter(tensors)
    save_file(tensors, bundle.weights_file)
    with pytest.raises(ModelError, match=r"weights\.safetensors (has a head|cannot be read as weights)"):
        assert bundle.head


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\xff" * 20, b"\2" + bytes(7) + b"[]", b"<html>" * 50])
def test_weights_that_are_none_are_refused(content: bytes, tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = copied(tiny_bundle, tmp_path / "b")
    bundle.weights_file.write_bytes(content)
    for read in (lambda: bundle.fingerprint, lambda: bundle.head, lambda: bundle.head_channels):
        with pytest.raises(ModelError, match="cannot be read as weights"):
            read()


def test_a_flipped_bit_in_the_network_is_seen(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = copied(tiny_bundle, tmp_path / "b")
    content = bundle.network_file.read_bytes()
    assert sealed(content[:-80]) == content
    for bit in np.random.default_rng(0).choice(8 * (len(content) - 80), 50, replace=False).tolist():
        bundle.network_file.write_bytes(flipped(content, bit))
        assert not bundle.has_network


def copied(bundle: Bundle, folder: Path) -> Bundle:
    """Return a copy of a bundle."""
    shutil.copytree(bundle.folder, folder)
    return find_bundle(str(folder))


def undigested(bundle: Bundle) -> Bundle:
    """Return a bundle as it was before there were digests, or as a stranger makes it with fitting ones."""
    return replace(bundle, card=replace(bundle.card, digests={}))


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "", "no-such-model"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ModelError):
        find_bundle(name)


def test_a_bundle_in_a_closed_folder_is_refused(tmp_path: Path) -> None:
    require_binding_permissions(tmp_path)
    (tmp_path / "closed").mkdir(mode=0)
    done = run_unprivileged(_FIND, tmp_path / "closed" / "model")
    assert "cannot be read as a model (Permission denied): give another bundle" in done.stdout, done.stderr


def test_a_package_under_a_link_has_its_models_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(PROJECT)
    code = "from retrieval.model.bundle import find_bundle; print(find_bundle('default').is_shipped)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "linked")},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"True\n"


def test_every_shipped_bundle_is_found_by_its_name() -> None:
    assert all(find_bundle(bundle.card.name) == bundle for bundle in shipped_bundles())
