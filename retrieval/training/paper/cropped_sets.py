"""Cropped data sets that are kept with a record of their crops, so that a finished one is used again."""

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
from retrieval.datasets.crop import CropReport, crop_dataset
from retrieval.datasets.crop_files import Crop, CropRules, UncroppedReason
from retrieval.datasets.split import read_split
from retrieval.model.encoder import Encoder
from retrieval.sources.files import content_hash, open_file


def load_or_crop(dataset: DataSet, out: Path, encoder: Encoder, progress: Progress) -> CropReport:
    """Crop a data set by a model into `out`, or read the record of a finished one, `out`'s name with `.json` beside it.

    Raises RetrievalError, also if `out` was cropped by another model or is there without a record.
    """
    with open_file(encoder.bundle.weights_file) as file:
        model = content_hash(file).hex()  # of the head's weights too
    record = out.with_name(out.name + ".json")
    if out.is_dir() and record.exists():
        progress.message(f"{out} is cropped already, and used again")
        return _read_record(record, dataset, out, model)
    part = out.with_name(out.name + ".part")
    with explain_write_errors(part):
        if part.exists():
            shutil.rmtree(part)  # of a run that was killed between writing and renaming
    if out.exists():
        raise SettingError(f"{out} is in the way: remove it, or give --out another folder")
    report = replace(crop_dataset(dataset, part, encoder, CropRules(), progress), out=out)
    write_atomically(record, json.dumps(_to_record(report, model)))
    split = read_split(part)
    assert split is not None, "a trained model has one, and it is copied along"
    replace(split, dataset=os.fspath(out.resolve())).write(part)
    with explain_write_errors(out):
        part.rename(out)
    return report


def _to_record(report: CropReport, model: str) -> dict[str, Any]:
    """Return a report as JSON values, its paths relative to the data set."""

    def relative(path: Path) -> str:
        return os.path.relpath(path, os.path.abspath(report.dataset))

    return {
        "model": model,
        "rules": asdict(report.rules),
        "whole": report.uncropped,
        "left_out": [(relative(path), reason) for path, reason in report.left_out],
        "seconds": report.seconds,
        "crops": [
            crop.values()
            | {"source": relative(crop.source), "partner": relative(crop.partner)}
            | {"heatmap": np.round(crop.heatmap.astype(float), 4).tolist()}
            for crop in report.crops
        ],
    }


def _read_record(file: Path, dataset: DataSet, out: Path, model: str) -> CropReport:
    start = Path(os.path.abspath(dataset.folder))
    try:
        values = json.loads(file.read_text("utf-8"))
        if values["model"] != model:
            raise SettingError(f"{out} was cropped by another model: give --out another folder, or remove it")
        return CropReport(
            dataset=dataset.folder,
            out=out,
            rules=CropRules(**values["rules"]),
            crops=tuple(_read_crop(each, start) for each in values["crops"]),
            uncropped={reason: int(values["whole"][reason]) for reason in UncroppedReason},
            left_out=tuple((start / path, reason) for path, reason in values["left_out"]),
            has_split=True,
            seconds=float(values["seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} cannot be read ({error!r}): remove it and {out}, and run again") from error


def _read_crop(values: dict[str, Any], start: Path) -> Crop:
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
