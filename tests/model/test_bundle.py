"""Bundles by name and by folder: what is no bundle is refused in one sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retrieval.common.errors import ModelError
from retrieval.model.bundle import Bundle, find_bundle, shipped_bundles
from tests.support.command import PROJECT
from tests.support.unprivileged import require_binding_permissions, run_unprivileged

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
        *({"format": "1"}, {"shift": "x"}),
    ],
    ids=json.dumps,
)
def test_a_card_of_other_types_is_refused(changed: dict[str, Any], tiny_bundle: Bundle, tmp_path: Path) -> None:
    values = json.loads((tiny_bundle.folder / "model.json").read_text("utf-8"))
    (tmp_path / "model.json").write_text(json.dumps(values | changed), "utf-8")
    with pytest.raises(ModelError, match=r"model\.json is not a model card \(.*\): give another bundle"):
        find_bundle(str(tmp_path))


def test_a_card_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("[]", "utf-8")
    with pytest.raises(ModelError, match="is not a model card"):
        find_bundle(str(tmp_path))


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
