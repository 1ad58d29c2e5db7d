"""Tests of training from class folders to a bundle: the files written, the errors, the command's output."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import cli
from indexes import atomic_files
from retrieval.common.errors import GalleryError, ModelError, RetrievalError, SettingError
from retrieval.datasets.split import Split, read_split
from retrieval.model.backbones import Backbone
from retrieval.model.bundle import find_bundle
from retrieval.training.prepared_data import PreparedData, Recipe
from retrieval.training.presets import Preset
from retrieval.training.train_bundle import TrainedBundle, train_bundle
from retrieval.training.trainer import Epoch
from tests.support.generated import make_set
from tests.support.training import BRIEF, tiny_trunk

HEAD = replace(BRIEF, frozen=1.0, epochs=2)
WRITTEN = {"model.json", "weights.safetensors", "network.onnx", "split.json", "metrics.jsonl", "curves.png"}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a backbone `tiny`, as if timm had it."""
    from retrieval.model import backbones

    from_timm = backbones._from_timm

    def found(name: str, pretrained: bool) -> Backbone:
        return tiny_trunk() if name == "tiny" else from_timm(name, pretrained)

    monkeypatch.setattr(backbones, "_from_timm", found)


def unmeasured(dataset: Path) -> Path:
    """Give a data set its own split without a test part, as measuring takes time."""
    Split("own", 0, {"train": (), "validation": (), "test": ()}).write(dataset)
    return dataset


def train(
    dataset: Path,
    out: Path,
    preset: Preset = HEAD,
    resume: bool = False,
    on_data: Callable[[PreparedData], None] = lambda data: None,
) -> TrainedBundle:
    return train_bundle(Recipe(dataset, preset), out, resume, "cpu", on_data=on_data)


class Killed(BaseException):
    """The end of the process."""


def kill(history: list[Epoch]) -> None:
    raise Killed


def begin(dataset: Path, out: Path, preset: Preset = HEAD) -> None:
    """Run a training that ends after its first epoch."""
    with pytest.raises(Killed):
        train_bundle(Recipe(dataset, preset), out, on_epoch=kill)


# Files


@pytest.mark.slow
def test_a_bundle_is_complete(tmp_path: Path) -> None:
    dataset, out = make_set(tmp_path / "set", 3, 12), tmp_path / "deep" / "model"
    seen: list[PreparedData] = []
    trained = train(dataset, out, replace(BRIEF, calibrate=True), on_data=seen.append)
    assert {path.name for path in out.iterdir()} == WRITTEN

    (data,) = seen
    # Of 12, 2 to test and 1 of the other 10 to validate; but one a class makes no pair, so these are trained on too.
    assert data.counts == {"train": 30, "validation": 0, "test": 6}
    bundle = find_bundle(str(out))
    card = bundle.card
    assert (card.name, card.backbone, card.units, card.normalize) == ("model", "tiny", 8, True)
    assert card.preprocessing == tiny_trunk().preprocessing
    assert card.provenance["classes"] == ["c0", "c1", "c2"]
    assert card.provenance["pictures"] == data.counts
    assert card.provenance["trained_on"] == "set"
    assert card.provenance["epochs"] == len(trained.history) == 3
    assert card.provenance["best_epoch"] == trained.best_epoch
    assert card.provenance["recipe"]["preset"]["loss"] == "pairs"
    ((name, figures),) = card.metrics.items()
    assert name.startswith("set")
    assert all(0 <= value <= 1 for value in figures.values())

    split = read_split(out)
    assert split is not None
    assert {name: len(contents) for name, contents in split.parts.items()} == data.counts
    assert Path(split.dataset) == dataset.resolve()
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(epoch) for epoch in trained.history]
    with Image.open(out / "curves.png") as picture:
        assert picture.format == "PNG"

    tensors = load_file(bundle.weights_file)
    assert tensors["dense.weight"].dtype == np.float16
    assert bundle.head.slope > 0
    before = tiny_trunk().module.state_dict()["0.0.weight"].numpy()
    assert not np.allclose(tensors["backbone.0.0.weight"], before, atol=1e-3)  # the backbone was trained too


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a process has mapped")
def test_the_pixels_are_no_longer_mapped_when_they_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows would leave them."""
    mapped: list[str] = []
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: mapped.append(Path("/proc/self/maps").read_text()))
    train(unmeasured(make_set(tmp_path / "set")), tmp_path / "out")
    assert ["pixels.npy" in each for each in mapped] == [False]


def test_training_the_head_alone_does_not_change_the_backbone(tmp_path: Path) -> None:
    out = tmp_path / "model"
    train(unmeasured(make_set(tmp_path / "set")), out)
    tensors = load_file(out / "weights.safetensors")
    for name, tensor in tiny_trunk().module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            expected = tensor.half() if tensor.ndim > 1 else tensor
            np.testing.assert_array_equal(tensors[f"backbone.{name}"], expected.numpy())


@pytest.mark.slow
def test_the_same_seed_writes_the_same_weights(tmp_path: Path) -> None:
    dataset = unmeasured(make_set(tmp_path / "set"))
    for name in ("one", "other"):
        train(dataset, tmp_path / name, BRIEF)
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other
    train_bundle(Recipe(dataset, BRIEF, seed=1), tmp_path / "third")
    assert (tmp_path / "third" / "weights.safetensors").read_bytes() != one


@pytest.mark.slow
def test_a_data_sets_own_split_is_followed(tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set", 2, 12)
    train(dataset, tmp_path / "first")
    split = read_split(tmp_path / "first")
    assert split is not None
    given = replace(split, parts=split.parts | {"train": split.parts["test"], "test": split.parts["train"]})
    given.write(dataset)
    train_bundle(Recipe(dataset, HEAD, seed=9), tmp_path / "second")
    followed = read_split(tmp_path / "second")
    assert followed is not None
    assert {name: set(contents) for name, contents in followed.parts.items()} == {
        name: set(contents) for name, contents in given.parts.items()
    }


@pytest.mark.slow
def test_odd_names_of_data_set_and_bundle(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9 [red]")))
    models = tmp_path / "models"
    dataset, out = unmeasured(make_set(odd)), models / "model \ud83c".encode("utf-8", "replace").decode()
    train(dataset, out)
    card = find_bundle(str(out)).card
    assert card.provenance["trained_on"] == odd.name
    shutil.move(out, models / os.fsdecode(b"\xff"))
    assert find_bundle(str(models / os.fsdecode(b"\xff"))).card == card
    train(dataset, models / os.fsdecode(b"\xfe"))
    assert find_bundle(str(models / os.fsdecode(b"\xfe"))).card.name == os.fsdecode(b"\xfe")


def test_a_bundle_is_not_written_into_its_data_set(tmp_path: Path) -> None:
    dataset = make_set(tmp_path / "set")
    for out in (dataset, dataset / "model"):
        with pytest.raises(GalleryError, match=r"lies in .*: give a folder outside it$"):
            train(dataset, out)
    assert not (dataset / "split.json").exists()


def test_broken_pictures_are_reported_and_left_out(tmp_path: Path) -> None:
    dataset = unmeasured(make_set(tmp_path / "set"))
    (dataset / "c1" / "03.png").write_bytes(b"")
    (dataset / "loose.png").write_bytes(b"x")
    seen: list[PreparedData] = []
    trained = train(dataset, tmp_path / "model", on_data=seen.append)
    left_out = {path.name: reason for path, reason in seen[0].dataset.left_out}
    assert left_out == {"03.png": "is empty", "loose.png": "lies in no class folder"}
    assert sum(trained.bundle.card.provenance["pictures"].values()) == 47


def test_without_a_validation_part_epochs_are_judged_by_the_training_part(tmp_path: Path) -> None:
    seen: list[PreparedData] = []
    trained = train(make_set(tmp_path / "set", 3, 3), tmp_path / "model", on_data=seen.append)
    assert not seen[0].can_validate
    assert seen[0].counts == {"train": 6, "validation": 0, "test": 3}
    assert all(0 <= epoch.validation_auc <= 1 for epoch in trained.history)


# Errors


def test_too_few_classes_or_pictures_are_one_sentence_and_more_can_be_added(tmp_path: Path) -> None:
    one_class, singles, out = make_set(tmp_path / "one", 1, 5), make_set(tmp_path / "singles", 5, 1), tmp_path / "model"
    for dataset, message in ((one_class, "has 1 class folders"), (singles, "at most 1 pictures in one")):
        with pytest.raises(GalleryError, match=message) as caught:
            train(dataset, out)
        assert "give at least two classes, one of them with two pictures" in str(caught.value)
    shutil.copytree(singles / "c1", one_class / "c1")
    train(unmeasured(one_class), out)  # the same command, once there is enough
    assert {path.name for path in out.iterdir()} == WRITTEN


def test_a_wrong_loss_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = unmeasured(make_set(tmp_path / "set"))
    with pytest.raises(ModelError, match="nonsense is not a loss"):
        train(dataset, tmp_path / "model", replace(HEAD, loss="nonsense"))
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_an_unfinished_training_is_not_overwritten(tmp_path: Path) -> None:
    dataset, out = unmeasured(make_set(tmp_path / "set")), tmp_path / "model"
    begin(dataset, out)
    assert (out / "training").is_dir()
    with pytest.raises(SettingError, match="holds an unfinished training: add --resume, or give another folder"):
        train(dataset, out)
    for other in (
        Recipe(dataset, replace(HEAD, epochs=7)),
        Recipe(dataset, HEAD, seed=1),
        Recipe(make_set(tmp_path / "other"), HEAD),
    ):
        with pytest.raises(
            SettingError, match="was started with other options: resume with those, or give another folder"
        ):
            train_bundle(other, out, resume=True)
    assert len(train(dataset, out, resume=True).history) == 2
    assert not (out / "training").exists()


def test_a_finished_training_is_kept(tmp_path: Path) -> None:
    dataset, out = unmeasured(make_set(tmp_path / "set")), tmp_path / "model"
    first = train(dataset, out, resume=True)  # starts, as there is nothing to resume
    written = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(SettingError, match="holds a model already: give another folder, or remove that one"):
        train(dataset, out)
    again = train(dataset, out, resume=True)
    assert again.history == first.history
    assert again.best_epoch == first.best_epoch
    assert again.bundle.fingerprint == first.bundle.fingerprint
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == written


@pytest.mark.slow
def test_pictures_that_vanish_move_or_appear_before_resuming(tmp_path: Path) -> None:
    dataset, out = unmeasured(make_set(tmp_path / "set")), tmp_path / "model"
    train(dataset, tmp_path / "calm")
    begin(dataset, out)
    one, other = dataset / "c0" / "00.png", dataset / "c1" / "moved.png"
    for away in (tmp_path / "away.png", other):
        one.rename(away)
        with pytest.raises(GalleryError, match="set lacks 1 pictures that the training began with: restore them"):
            train(dataset, out, resume=True)
        away.rename(one)
    one.rename(dataset / "c0" / "renamed.png")  # names do not matter
    Image.new("RGB", (20, 20)).save(dataset / "c0" / "new.png")  # and later pictures are not trained on
    train(dataset, out, resume=True)
    calm, disturbed = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("calm", "model"))
    assert calm == disturbed


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_training_resumes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, out = unmeasured(make_set(tmp_path / "set")), tmp_path / "model"
    train(dataset, tmp_path / "calm")
    replace_file = atomic_files.replace_file
    for name in ("plan.json", "checkpoint.safetensors", "metrics.jsonl", "curves.png", "split.json", "weights.safe"):

        def full(path: Path, name: str = name) -> AbstractContextManager[Path]:
            if name in path.name:
                raise OSError(28, "No space left on device")
            return replace_file(path)

        with monkeypatch.context() as patch:
            patch.setattr(atomic_files, "replace_file", full)
            with pytest.raises(RetrievalError, match="No space left on device") as caught:
                train(dataset, out, resume=True)
            assert "\n" not in str(caught.value)
    train(dataset, out, resume=True)
    calm, disturbed = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("calm", "model"))
    assert calm == disturbed
    assert {path.name for path in out.iterdir()} == WRITTEN


# The command


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [*map(str, arguments)])


def answer(*arguments: str | Path) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def error_of(*arguments: str | Path) -> str:
    """Return the error of a command that fails: one sentence, after the summary of the data set."""
    done = run(*arguments)
    assert done.exit_code == 1, done.output
    *_, last = done.stderr.replace("\n", " ").strip().split("error: ")
    assert done.stderr.count("error: ") == 1
    assert not done.stdout
    return last


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return unmeasured(make_set(tmp_path / "set", 3, 6))


def test_json_output(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out, events = tmp_path / "model", tmp_path / "events"
    output = answer(
        "train", small, "--out", out, "--backbone", "tiny", "--epochs", "2", "--no-thaw", "--tensorboard", events
    )
    assert set(output) == {"model", "best_epoch", "epochs", "provenance", "metrics"}
    assert output["model"] == {"name": "model", "fingerprint": find_bundle(str(out)).fingerprint, "folder": str(out)}
    assert [set(epoch) for epoch in output["epochs"]] == [
        {"epoch", "loss", "validation_loss", "validation_auc", "rate", "seconds"}
    ] * 2
    assert output["best_epoch"] in (1, 2)
    assert [file.name.startswith("events.out.tfevents") for file in events.iterdir()] == [True]
    assert (
        answer("train", small, "--out", out, "--backbone", "tiny", "--epochs", "2", "--no-thaw", "--resume") == output
    )


def test_terminal_output(small: Path, tmp_path: Path) -> None:
    (small / "c0" / "00.png").write_bytes(b"")
    out = tmp_path / "model"
    done = run("train", small, "--out", out, "--backbone", "tiny", "--epochs", "1", "--no-thaw")
    assert done.exit_code == 0, done.stderr
    output = " ".join(done.stderr.split())
    assert "3 classes, 17 train, 0 validation, 0 test pictures" in output
    assert "too few pictures for a validation part: epochs are judged by the training part" in output
    assert "00.png is empty" in output
    assert "the best is epoch 1, with a validation ROC AUC of" in " ".join(done.stdout.split())
    assert "retrieve evaluate --model" in " ".join(done.stdout.split())


def test_tensorboard_that_is_not_installed(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ("train", small, "--out", tmp_path / "model", "--backbone", "tiny", "--tensorboard", tmp_path / "events")
    assert "--tensorboard needs a package: `pip install tensorboard`" in error_of(*words)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--backbone", "tiny", "--loss", "nonsense"], "nonsense is not a loss: give one of pairs, contrastive,"),
        (["--backbone", "nonsense"], "nonsense is not a backbone: give efficientnet_lite0, resnet50, or"),
        (["--weights", "gone.pth"], "gone.pth cannot be read as weights"),
        (["--preset", "paper", "--weights", "{set}/c0/00.png"], "00.png holds more than weights: give a state dict"),
        (["--backbone", "tiny", "--loss", "GenericPairLoss"], "needs more than pictures and classes"),
    ],
    ids=["loss", "backbone", "weights", "picture", "part"],
)
def test_wrong_options_are_one_sentence(options: list[str], sentence: str, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert sentence in error_of("train", small, "--out", out, *(option.format(set=small) for option in options))
    assert not out.exists()


def test_wrong_paths_and_data_sets_are_one_sentence(small: Path, tmp_path: Path) -> None:
    options = ("--backbone", "tiny", "--no-thaw", "--epochs", "1")
    assert "gone is not a folder" in error_of("train", tmp_path / "gone", "--out", tmp_path / "model", *options)
    assert "is a file: give --out a folder" in error_of("train", small, "--out", small / "c0" / "00.png", *options)
    assert "has 1 class folders" in error_of(
        "train", make_set(tmp_path / "one", 1, 3), "--out", tmp_path / "model", *options
    )


@pytest.mark.parametrize(
    "options",
    [
        ["--keep-general", "--backbone", "resnet50"],
        ["--keep-general", "--no-thaw"],
        ["--preset", "slow"],
        ["--epochs", "0"],
        ["--seed", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(options: list[str], small: Path, tmp_path: Path) -> None:
    done = run("train", small, "--out", tmp_path / "model", *options)
    assert done.exit_code == 2
    assert not (tmp_path / "model").exists()
    assert run("train", small).exit_code == 2  # without --out


def test_help_has_an_example() -> None:
    done = run("train", "--help")
    assert done.exit_code == 0
    assert "retrieve train flowers --out flowers-model" in " ".join(done.stdout.split())


# A trained bundle in use


@pytest.mark.slow
def test_a_gallery_is_indexed_and_queried_with_a_trained_bundle(tmp_path: Path) -> None:
    dataset, out, store = unmeasured(make_set(tmp_path / "set", 3, 8)), tmp_path / "model", tmp_path / "store"
    train(dataset, out, replace(BRIEF, epochs=8, calibrate=True))
    assert answer("index", dataset, "--store", store, "--model", out)["embedded"] == 24
    picture = dataset / "c1" / "00.png"
    found = answer("query", picture, "--store", store, "--top", "5", "--no-explain")
    assert found["model"]["name"] == "model"
    assert [hit["label"] for hit in found["hits"]] == ["c1"] * 5
    assert found["hits"][0]["path"] == str(picture)
    assert found["hits"][0]["verdict"] == "similar"


@pytest.mark.slow
def test_a_trained_head_queries_an_index_of_the_default_model(tmp_path: Path) -> None:
    dataset, out, store = unmeasured(make_set(tmp_path / "set", 3, 4)), tmp_path / "model", tmp_path / "store"
    assert answer("index", dataset, "--store", store)["embedded"] == 12
    output = answer("train", dataset, "--out", out, "--no-thaw", "--epochs", "5")
    assert output["model"]["fingerprint"] == find_bundle("default").fingerprint
    again = answer("index", dataset, "--store", store, "--model", out)
    assert (again["embedded"], again["unchanged"], again["failed"]) == (0, 12, 0)
    query = ("query", dataset / "c0" / "00.png", "--store", store, "--top", "12", "--no-explain", "--model")
    before, after = (
        {hit["path"]: hit["similarity"] for hit in answer(*query, model)["hits"]} for model in ("default", out)
    )
    assert set(before) == set(after)
    assert sum(abs(before[path] - after[path]) > 1e-3 for path in before) > 6


# A kill at every write


@pytest.mark.slow
def test_a_training_killed_at_any_write_resumes_to_the_same_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = unmeasured(make_set(tmp_path / "set", 3, 6))
    replace_file, remove = os.replace, shutil.rmtree
    left = [10_000]

    def ending(call: Callable[..., None]) -> Callable[..., None]:
        def instead(*arguments: Any, **options: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            call(*arguments, **options)

        return instead

    monkeypatch.setattr(os, "replace", ending(replace_file))
    monkeypatch.setattr(shutil, "rmtree", ending(remove))
    train(dataset, tmp_path / "calm")
    writes = 10_000 - left[0]
    assert writes > 8
    calm = {path.name: path.read_bytes() for path in (tmp_path / "calm").iterdir()}
    for moment in range(1, writes + 1):
        out = tmp_path / str(moment) / "calm"
        left[0] = moment
        with pytest.raises(Killed):
            train(dataset, out)
        left[0] = 10_000
        train(dataset, out, resume=True)
        found = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
        assert set(found) == WRITTEN, moment
        for name in ("weights.safetensors", "split.json", "model.json"):
            assert found[name] == calm[name], (moment, name)
        assert len(found["metrics.jsonl"].splitlines()) == 2, moment
