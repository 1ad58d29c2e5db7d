"""What a library user sees under `retrieval`."""

import logging
import os
from pathlib import Path

import pytest

from retrieval.common.progress import SILENT
from retrieval.engine import Engine
from tests.support.store import Indexed


def test_the_librarys_steps_are_logged(
    indexed: Indexed, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "broken.jpg").write_text("no picture")
    Path(os.fsdecode(bytes(tmp_path / "gallery" / "x") + b"\xff.jpg")).write_text("no UTF-8")
    with caplog.at_level(logging.INFO, "retrieval"), Engine.open(indexed.copy(tmp_path / "store")) as engine:
        engine.index(tmp_path / "gallery")
    messages = "\n".join(record.getMessage() for record in caplog.records)
    assert f"store {tmp_path / 'store'} with the model default" in messages
    assert f"{tmp_path}/gallery/broken.jpg is not a picture in a known format" in messages
    assert "x\\xff.jpg is not a picture" in messages  # a log file in UTF-8 could not take the name as it is
    assert "Indexing: " in messages
    assert all(record.name.partition(".")[0] == "retrieval" for record in caplog.records)
    assert capsys.readouterr() == ("", "")


def test_a_stage_without_a_title_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "retrieval"), SILENT.stage(""):
        pass
    assert not caplog.records
