"""A network that cannot be prepared is told in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino
import pytest

from retrieval import network
from retrieval.bundle import Bundle
from retrieval.errors import ModelError
from retrieval.network import open_network


@pytest.mark.parametrize("error", [RuntimeError("no such\nlayer"), TypeError("no such")])
def test_a_failing_conversion_is_one_sentence(
    error: Exception, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setenv("RETRIEVE_CACHE", str(tmp_path))
    monkeypatch.setattr(openvino, "convert_model", fail)
    with pytest.raises(ModelError, match=r"cannot be prepared for this machine \(no such\): get the bundle anew"):
        open_network(tiny_bundle, "cpu")
    assert not list(tmp_path.iterdir())


def test_a_network_that_never_compiles_is_one_sentence(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("cannot compile")

    monkeypatch.setattr(network, "_request", fail)
    with pytest.raises(ModelError, match=r"\(cannot compile\): get the bundle anew"):
        open_network(tiny_bundle, "cpu")
