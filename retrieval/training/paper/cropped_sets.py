"""Cropped data sets that are kept with what is known of their crops, so that a finished one is used again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.common.atomic_files import explain_write_errors, write_atomically
from retrieval.common.errors import ModelError, SettingError
from retrieval.common.progress import Progress
from retrieval.datasets.class_folders import DataSet
from retrieval.datasets.crop import CropReport, CropRules, crop_dataset
from retrieval.datasets.crop_files import Crop, UncroppedReason
from retrieval.datasets.split import read_split
from retrieval.model.encoder import Encoder
from retrieval.sources.files import content_hash, open_file


def is_cropped(out: Path) -> bool:
    """Whether the cropped data set `out` is finished."""
    return out.is_dir() and _record(out).exists()


def load_or_crop(dataset: DataSet, out: Path, encoder: Encoder, progress: Progress) -> CropReport:
    """The data set cropped by a model into `out`, whose record is `out`'s name with `.json` beside it.

    A finished one is given back as its record tells it. Raises RetrievalError, also where `out` comes from another
    model or is there without a record.
    """
    model = _model_digest(encoder)
    if is_cropped(out):
        return _read_record(dataset, out, model)
    part = out.with_name(out.name + ".part")
    with explain_write_errors(part):
        if part.exists():
            shutil.rmtree(part)  # of a run that was killed between writing and naming
    if out.exists():
        raise SettingError(f"{out} is in the way: remove it, or give --out another folder")
    report = replace(crop_dataset(dataset, part, encoder, CropRules(), progress), out=out)
    write_atomically(_record(out), json.dumps(_to_record(report, model)))
    split = read_split(part)
    assert split is not None, "a trained model has one, and it goes along"
    replace(split, dataset=os.fspath(out.resolve())).write(part)
    with explain_write_errors(out):
        part.rename(out)
    return report


def _record(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def _model_digest(encoder: Encoder) -> str:
    """The SHA-256 (hex) of the model's weights, the head's too."""
    with open_file(encoder.bundle.weights_file) as file:
        return content_hash(file).hex()


def _to_record(report: CropReport, model: str) -> dict[str, Any]:
    start = Path(os.path.abspath(report.dataset))
    return {
        "model": model,
        "rules": asdict(report.rules),
        "whole": {str(why): count for why, count in report.uncropped.items()},
        "left_out": [[os.path.relpath(path, start), reason] for path, reason in report.left_out],
        "seconds": report.seconds,
        "crops": [
            crop.values()
            | {"source": os.path.relpath(crop.source, start), "partner": os.path.relpath(crop.partner, start)}
            | {"heatmap": np.round(crop.heatmap.astype(float), 4).tolist()}
            for crop in report.crops
        ],
    }


def _read_record(dataset: DataSet, out: Path, model: str) -> CropReport:
    start = Path(os.path.abspath(dataset.folder))
    file = _record(out)
    try:
        values = json.loads(file.read_text("utf-8"))
        if values["model"] != model:
            raise SettingError(f"{out} was cropped by another model: give --out another folder, or remove it")
        return CropReport(
            dataset=dataset.folder,
            out=out,
            rules=CropRules(**values["rules"]),
            crops=tuple(_crop(each, start) for each in values["crops"]),
            uncropped={why: int(values["whole"][why]) for why in UncroppedReason},
            left_out=tuple((start / path, reason) for path, reason in values["left_out"]),
            has_split=True,
            seconds=float(values["seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} cannot be read ({error!r}): remove it and {out}, and run again") from error


def _crop(values: dict[str, Any], start: Path) -> Crop:
    left, top, right, bottom = values["box"]
    return Crop(
        source=start / values["source"],
        written=Path(values["written"]),
        partner=start / values["partner"],
        similarity=values["similarity"],
        size=(values["width"], values["height"]),
        box=(left, top, right, bottom),
        heatmap=np.array(values["heatmap"], np.float32),
    )
