"""Every command as a person runs it: its answers, its errors, and its messages."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import cli
from retrieval.commands import store
from retrieval.model.bundle import find_bundle
from tests.support.command import PROJECT, RETRIEVE, answer, environment, retrieve, retrieve_here, sentence
from tests.support.generated import CLASSES, PICTURES_A_CLASS, blocks
from tests.support.html_checker import Checker
from tests.support.store import BROKEN_NAME, ODD_NAMES, Indexed
from tests.support.terminal import on_a_terminal
from tests.support.trained import trained_copy

COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
PICTURES = len(CLASSES) * PICTURES_A_CLASS + len(ODD_NAMES)
ESCAPE = b"\x1b"
SAFE_ODD_NAMES = ("caf\\xe9 \\xff.png", "two\\x0alines.png", "[red]<b>&.png", "[/red].png")
SAFE_BROKEN_NAME = "[red]broken\\x0a\\xff.jpg"
PAIR_KEYS = {
    *("similar", "different", "accuracy", "roc_auc", "thresholded_auc", "calibration_error", "reliability"),
    *("precision", "recall", "macro_precision", "macro_recall"),
    *("true_similar", "false_similar", "true_different", "false_different"),
}
STAGES = {"load", "embed", "search", "rescore", "explain", "render", "total"}
HIT_KEYS = {
    *("rank", "path", "label", "similarity", "distance", "verdict", "index_rank", "index_distance"),
    *(
        "copies",
        "width",
        "height",
        "note",
        "explanation",
        "probability",
        "familiarity",
        "plain_similarity",
        "plain_distance",
    ),
}


def query(indexed: Indexed, *arguments: str | Path | bytes) -> Any:
    """Return the answer of `retrieve query` to one picture, without explanations."""
    return answer("query", *arguments, "--no-explain", "--store", indexed.store)


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_in_its_help(command: str) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=200).output
    examples = re.sub(r"\s+", " ", shown).partition("Example")[2]
    assert f"retrieve {command}" in examples


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_mentions_every_command(command: str) -> None:
    assert f"retrieve {command}" in (PROJECT / "README.md").read_text("utf-8")


def test_help_lists_the_commands() -> None:
    done = retrieve("--help")
    assert done.returncode == 0
    assert all(command in done.stdout.decode() for command in COMMANDS)


# Wrong usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "a.jpg", "--no-such-option"],
        ["no-such-command"],
        ["query"],
        ["query", "a.jpg", "--top", "0"],
        ["query", "a.jpg", "--top", "501"],
        ["query", "a.jpg", "--top", "11", "--pool", "10"],
        ["query", "a.jpg", "--min-similarity", "1.5"],
        ["query", "a.jpg", "--confidence", "1.5"],
        ["calibrate", "--reset", "--html", "page.html"],
        ["query", "a.jpg", "--no-explain", "--out", "folder"],
        ["fit", "sets", "--out", "folder", "--test", "a/x", "--test", "b/x"],
        ["evaluate"],
        ["evaluate", "a", "--pairs", "0"],
        ["evaluate", "a", "--against", "default"],
        *([command, "a", "--device", "abacus"] for command in ("index", "query", "evaluate", "fit", "demo")),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str], tmp_path: Path) -> None:
    done = retrieve_here(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"Usage: " in done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["query", "{picture}"], "is not a store: make one with `retrieve index GALLERY`"),
        (["status"], "is not a store"),
        (["remove", "x"], "is not a store"),
        (["index", "{picture}"], "is a picture: give the folder that holds it"),
        (["index", "gone"], "gone does not exist, so nothing was marked missing"),
        (["index"], "the store has no gallery yet: give a folder of pictures"),
        (["index", "{gallery}", "--model", "none"], "none is neither a model's name"),
        (["query", "{picture}", "--store", "{store}", "--model", "none"], "none is neither a model's name"),
        (["query", "gone.jpg", "--store", "{store}"], "gone.jpg does not exist"),
        (["query", "{gallery}", "--store", "{store}"], "is a folder, not a picture"),
        (["query", "{picture}", "--store", "{store}", "--html", "."], ". is a folder: give --html a file"),
        (["query", "{picture}", "--store", "{store}", "--out", "{picture}"], "is a file: give --out a folder"),
        (["explain", "{picture}", "{picture}", "--out", "{picture}"], "is a file: give --out a folder"),
        (["fit", "{gallery}", "--out", "{picture}"], "is a file: give --out a folder"),
        (["explain", "{picture}", "gone.jpg"], "gone.jpg does not exist"),
        (["evaluate", "gone"], "gone is not a folder: give a folder of class folders"),
        (["evaluate", "{gallery}/apples"], "holds no picture in a class folder"),
        (["evaluate", "{gallery}", "--html", "."], ". is a folder: give --html a file"),
        pytest.param(["fit", "gone", "--out", "bundle"], "gone does not exist", marks=pytest.mark.torch),
        (["calibrate"], "is not a store"),
        (["duplicates"], "is not a store"),
        (["duplicates", "--store", "{store}", "--html", "."], ". is a folder: give --html a file"),
        (
            ["calibrate", "--store", "{store}"],
            "too few to calibrate to: index at least 20, with 4 or more in two class",
        ),
        (["calibrate", "--store", "{store}", "--html", "."], ". is a folder: give --html a file"),
        (["models", "gone"], "gone is neither a model's name"),
        (["remove", "gone", "--store", "{store}"], "gone is not in the store: `retrieve status` shows what is"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_impossible_command_ends_with_one_sentence(
    arguments: list[str], said: str, indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"picture": indexed.picture, "gallery": indexed.gallery}
    store = indexed.copy(tmp_path / "copy") if "{store}" in arguments else Path("none")
    monkeypatch.chdir(tmp_path)
    done = retrieve_here(*(each.format(store=store, **places) for each in arguments))
    done.stdout = done.stdout.removeprefix(b"0 pictures removed from the store\n")
    assert said in sentence(done)


# index


def test_index_reports_its_counts_and_failures(indexed: Indexed) -> None:
    first, *failures = indexed.said.splitlines()
    assert first.startswith(f"{PICTURES} added ({PICTURES} embedded, 0 reused), 0 unchanged, 0 missing, 2 failed in ")
    assert [line.strip().removeprefix(f"{indexed.gallery}/odd/") for line in failures] == [
        f"{SAFE_BROKEN_NAME} is not a picture in a known format",
        "empty.jpg is empty",
    ]


def test_index_twice_renamed_and_deleted(small_gallery: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = answer("index", small_gallery, "--store", store)
    keys = {"added", "reused", "embedded", "unchanged", "missing", "failed", "seconds", "failures", "kept_roots"}
    keys |= {"passed_over", "empty_roots", "notes"}
    assert first.keys() == keys
    assert (first["added"], first["embedded"], first["failed"], first["failures"]) == (12, 12, 0, [])
    again = answer("index", "--store", store)
    assert (again["added"], again["embedded"], again["unchanged"]) == (0, 0, 12)
    (small_gallery / "apples" / "0.png").rename(small_gallery / "boats" / "renamed.png")
    (small_gallery / "cats" / "0.png").unlink()
    changed = answer("index", small_gallery, "--store", store)
    assert (changed["added"], changed["embedded"], changed["reused"], changed["missing"]) == (1, 0, 1, 2)
    found = answer("query", small_gallery / "boats" / "renamed.png", "--top", "15", "--no-explain", "--store", store)
    names = {os.path.relpath(hit["path"], small_gallery): hit["label"] for hit in found["hits"]}
    assert len(names) == 11
    assert names["boats/renamed.png"] == "boats"
    assert not {"apples/0.png", "cats/0.png"} & names.keys()


def test_a_vanished_gallery_loses_nothing(indexed: Indexed, tmp_path: Path) -> None:
    gallery = Path(shutil.copytree(indexed.gallery / "apples", tmp_path / "gallery"))
    answer("index", gallery, "--store", tmp_path / "store")
    gallery.rename(tmp_path / "aside")
    for command in (["index", str(gallery)], ["index"]):
        assert "does not exist, so nothing was marked missing" in sentence(
            retrieve_here(*command, "--store", tmp_path / "store")
        )
    assert answer("status", "--store", tmp_path / "store")["galleries"][0]["pictures"] == PICTURES_A_CLASS
    gallery.mkdir()
    report = answer("index", gallery, "--store", tmp_path / "store")
    assert (report["missing"], report["kept_roots"]) == (0, [str(gallery)])


# query


def test_query_prints_json_with_stable_keys(indexed: Indexed, tmp_path: Path) -> None:
    options = ("--top", "3", "--method", "ensemble", "--out", tmp_path / "out", "--store", indexed.store)
    found = answer("query", indexed.picture, *options)
    judged = {"coverage", "similarity_by", "calibrated", "confidence", "confident", "familiarity", "foreign", "doubt"}
    assert found.keys() == {"query", "store", "model", "threshold", "pool", "nothing", "hits", "seconds"} | judged
    assert [found[name] for name in ("similarity_by", "calibrated", "confidence", "confident", "foreign", "doubt")] == [
        *("gallery", False, None, True, False, None)
    ]
    assert found["familiarity"] == max(hit["familiarity"] for hit in found["hits"])
    assert found["seconds"].keys() == STAGES
    assert found["model"].keys() == {"name", "fingerprint"}
    assert (found["query"], found["store"]) == (str(indexed.picture), str(indexed.store))
    assert (found["threshold"], found["pool"]) == (0.5, PICTURES)
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert all(hit.keys() == HIT_KEYS for hit in found["hits"])
    first, second = found["hits"][:2]
    assert (first["path"], first["label"]) == (str(indexed.picture), "apples")
    assert (first["width"], first["height"], first["verdict"], first["index_rank"]) == (160, 100, "similar", 1)
    assert first["explanation"]["identical"]
    seen = {"left": 17, "top": 0, "width": 126, "height": 100}
    for side in ("query", "hit"):
        empty = first["explanation"][side]
        assert empty.pop("values").keys() == {"factual", "counterfactual"}
        assert empty == {"factual": None, "counterfactual": None, "magnitude": 0.0, "seen": seen}
        for kind in ("factual", "counterfactual"):
            assert Path(second["explanation"][side][kind]).is_file()
            assert Path(second["explanation"]["gradcam"][side][kind]).is_file()
    plain = query(indexed, indexed.picture, "--top", "3")
    assert plain["seconds"].keys() == STAGES
    assert [hit["path"] for hit in plain["hits"]] == [hit["path"] for hit in found["hits"]]
    assert [hit["explanation"] for hit in plain["hits"]] == [None] * 3


@pytest.mark.parametrize("method", ["ensemble", pytest.param("occlusion", marks=pytest.mark.slow)])
def test_json_has_grad_cam_beside_every_method(method: str, indexed: Indexed) -> None:
    options = ("--top", "3", "--store", indexed.store, "--method")
    shown, alone = (
        [hit["explanation"] for hit in answer("query", indexed.picture, *options, name)["hits"]]
        for name in (method, "gradcam")
    )
    for own, expected in zip(shown, alone, strict=True):
        assert (own["method"], expected["method"], expected["gradcam"]) == (method, "gradcam", None)
        assert own["gradcam"].keys() == {"as_wholes", "query", "hit", "verification"}
        for side in ("query", "hit"):
            assert own["gradcam"][side] == expected[side]
    assert max(map(max, shown[1]["gradcam"]["hit"]["values"]["factual"])) > 0
    assert shown[1]["query"]["values"] != alone[1]["query"]["values"]
    pair = ("explain", indexed.picture, indexed.gallery / "boats" / "1.png", "--method")
    own, expected = (answer(*pair, name, cwd=indexed.folder)["explanation"] for name in (method, "gradcam"))
    assert own["gradcam"]["hit"]["values"] == expected["hit"]["values"]


def test_overlays_sheet_and_page(indexed: Indexed, tmp_path: Path) -> None:
    folder, html = tmp_path / "new" / "out", tmp_path / "why.html"
    picture = tmp_path / "query.png"
    Image.fromarray(blocks(50, 640, 200)).save(picture)
    options = ("--top", "2", "--method", "ensemble", "--store", indexed.store)
    done = retrieve_here("query", picture, "--out", folder, "--html", html, *options)
    assert done.returncode == 0, done.stderr.decode()
    assert str(folder / "contact-sheet.png") in done.stdout.decode()
    assert str(html) in done.stdout.decode()
    names = {f"hit-{rank}-{side}" for rank in ("01", "02") for side in ("query", "hit")}
    kinds = [f"{part}{kind}" for part in ("", "gradcam-") for kind in ("factual", "counterfactual")]
    names = {f"{name}-{kind}.jpg" for name in names for kind in kinds}
    assert {path.name for path in folder.iterdir()} == names | {"contact-sheet.png"}
    with Image.open(folder / "hit-01-query-factual.jpg") as overlay:
        assert overlay.size == (448, 140)
    with Image.open(folder / "contact-sheet.png") as sheet:
        assert min(sheet.size) > 300
    page = html.read_text("utf-8")
    checked = Checker(page)
    sources = [value or "" for _, name, value in checked.attributes if name in ("src", "href")]
    assert len(sources) == 2 + 2 * 6
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?:|url\(|@import", re.sub(r"data:image/\w+;base64,[\w+/=]+", "", page))
    assert "query.png" in checked.text

    longer = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    answer("query", picture, "--out", folder, *options, "--top", "1")
    assert {path.name for path in folder.iterdir()} == {name for name in longer if not name.startswith("hit-02")}


def test_several_pictures_one_of_them_broken(indexed: Indexed, tmp_path: Path) -> None:
    broken, page = tmp_path / "broken.jpg", tmp_path / "page.html"
    broken.write_bytes(indexed.picture.read_bytes()[:200])
    pictures: list[str | Path | bytes] = [
        indexed.picture,
        broken,
        "-",
        tmp_path / "gone.png",
        indexed.odd(ODD_NAMES[0]),
    ]
    options = ("--top", "1", "--json", "--html", page, "--out", tmp_path / "out", "--store", indexed.store)
    done = retrieve_here("query", *pictures, *options, stdin=(indexed.gallery / "cats" / "1.png").read_bytes())
    assert done.returncode == 1
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [os.fsencode(each["query"]) for each in answers] == [bytes(indexed.picture), b"-", pictures[-1]]
    assert answers[1]["hits"][0]["path"] == str(indexed.gallery / "cats" / "1.png")
    first, second = done.stderr.decode().splitlines()
    assert first.startswith(f"error: {broken} is damaged or not a picture: ")
    assert second == f"error: {tmp_path / 'gone.png'} does not exist"
    assert "Query: standard input" in Checker(page.read_text("utf-8")).text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["01", "03", "05"]


@pytest.mark.parametrize(
    ("given", "said"),
    [(b"", "standard input is empty"), (b"words", "standard input is not a picture in a known format")],
)
def test_standard_input_that_is_not_a_picture(given: bytes, said: str, indexed: Indexed) -> None:
    assert sentence(retrieve_here("query", "-", "--store", indexed.store, stdin=given)) == said


def test_label_and_least_similarity_filter(indexed: Indexed) -> None:
    boats = query(indexed, indexed.picture, "--label", "boats", "--top", "15")["hits"]
    assert [hit["label"] for hit in boats] == ["boats"] * PICTURES_A_CLASS
    everything = query(indexed, indexed.picture, "--top", "15")["hits"]
    least = ("--min-similarity", str(everything[4]["similarity"]))
    assert query(indexed, indexed.picture, "--top", "15", *least)["hits"] == everything[:5]
    done = retrieve_here("query", indexed.picture, "--label", "dogs", *least, "--store", indexed.store)
    assert done.returncode == 0
    assert "nothing found: no picture has the label dogs; there are: " in done.stdout.decode()


def test_all_outputs_say_if_nothing_is_confidently_similar(indexed: Indexed, tmp_path: Path) -> None:
    picture, page = tmp_path / "query.png", tmp_path / "page.html"
    Image.fromarray(blocks(50)).save(picture)
    options = ("--confidence", "1", "--store", indexed.store)
    done = retrieve_here("query", picture, "--html", page, "--out", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr.decode()
    (said,) = [line for line in done.stdout.decode().splitlines() if line.startswith("None of the pictures")]
    assert re.fullmatch(r".* looks like this one: the nearest is farther away than that of \d+ % of .*", said)
    assert "1   " in done.stdout.decode()  # the hits are still shown
    assert said in Checker(page.read_text("utf-8")).text
    assert (tmp_path / "out" / "contact-sheet.png").is_file()
    result = answer("query", picture, "--no-explain", *options)
    assert (result["confident"], result["confidence"], len(result["hits"])) == (False, 1.0, 5)
    assert b"None of the pictures" not in retrieve_here("query", indexed.picture, "--store", indexed.store).stdout
    assert not answer("query", picture, "--min-similarity", "1", "--no-explain", "--store", indexed.store)["confident"]


def test_a_store_of_before_and_one_by_choice_show_the_models_own_similarity(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    with closing(sqlite3.connect(store / "catalogue.sqlite")) as database, database:
        database.execute("DELETE FROM settings WHERE name = 'gallery_statistics'")
    command = ("query", indexed.picture, "--no-explain", "--store", store)
    done = retrieve_here(*command).stdout.decode()
    assert "The similarity is the model's own, until the next `retrieve index` learns" in " ".join(done.split())
    assert "same kind" not in done
    assert retrieve_here("index", "--plain-similarity", "--store", store).returncode == 0
    found = answer(*command)
    assert (found["similarity_by"], found["foreign"], found["confident"]) == ("model", None, True)
    assert all(hit["similarity"] == hit["plain_similarity"] for hit in found["hits"])
    assert answer("status", "--store", store)["similarity"] == {"by": "model", "reason": "chosen"}


def test_a_page_never_takes_a_pictures_place(indexed: Indexed, tmp_path: Path) -> None:
    picture = tmp_path / "mine.jpg"
    picture.write_bytes(b"dear")
    done = retrieve_here("query", indexed.picture, "--html", picture, "--store", indexed.store)
    assert done.returncode == 1
    assert sentence(done).endswith("mine.jpg is not named like a page: give --html a name that ends in .html")
    assert picture.read_bytes() == b"dear"


def test_files_that_are_no_pictures_are_counted(small_gallery: Path, tmp_path: Path) -> None:
    for name in ("one.CR2", "two.cr2", "three.mov"):
        (small_gallery / name).write_bytes(b"x")
    done = retrieve_here("index", small_gallery, "--store", tmp_path / "store")
    assert "passed over, by the endings of their names: 2 .cr2, 1 .mov" in done.stdout.decode()


def test_odd_names_break_no_answer(indexed: Indexed, tmp_path: Path) -> None:
    paths = [indexed.odd(name) for name in ODD_NAMES]
    page, folder = tmp_path / "page.html", tmp_path / "out"
    options = ("--top", "1", "--html", page, "--out", folder, "--store", indexed.store)
    done = retrieve_here("query", *paths, *options, COLUMNS="400")
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    words = Checker(page.read_text("utf-8")).text
    for safe in SAFE_ODD_NAMES:
        assert f"Most similar to {indexed.gallery}/odd/{safe}" in lines
        assert len([line for line in lines if line.lstrip().startswith("1 ") and safe in line]) == 1
        assert words.count(safe.rpartition("/")[2]) >= 2
    assert len(list(folder.glob("*/contact-sheet.png"))) == len(ODD_NAMES)
    done = retrieve_here("query", *paths, "--top", "1", "--no-explain", "--json", "--store", indexed.store)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [os.fsencode(each["query"]) for each in answers] == paths
    assert [os.fsencode(each["hits"][0]["path"]) for each in answers] == paths


def test_a_tiff_beyond_pillows_limit_is_read(indexed: Indexed, tmp_path: Path) -> None:
    picture = tmp_path / "scan.tif"
    Image.new("1", (18_000, 10_000)).save(picture, compression="group4")
    assert len(query(indexed, picture, "--top", "1")["hits"]) == 1


# Where the store is


def test_the_store_is_found_upwards_or_by_the_environment(indexed: Indexed, tmp_path: Path) -> None:
    assert answer("status", cwd=indexed.gallery / "apples")["store"] == str(indexed.store)
    assert answer("status", cwd=tmp_path, RETRIEVE_STORE=str(indexed.store))["store"] == str(indexed.store)
    assert "elsewhere is not a store" in sentence(
        retrieve_here("status", cwd=indexed.gallery, RETRIEVE_STORE="elsewhere")
    )
    found = answer("query", "0.png", "--top", "1", "--no-explain", cwd=indexed.gallery / "apples")
    assert found["hits"][0]["path"] == str(indexed.picture)


def test_a_store_is_made_in_the_working_folder(small_gallery: Path, tmp_path: Path) -> None:
    answer("index", "gallery", cwd=tmp_path)
    assert (tmp_path / ".retrieve" / "catalogue.sqlite").is_file()
    done = retrieve_here("query", "apples/1.png", "--no-explain", "--top", "1", cwd=small_gallery)
    assert re.search(r"1 +apples/1\.png +apples", done.stdout.decode())


def test_a_working_folder_that_is_gone(indexed: Indexed, tmp_path: Path) -> None:
    def in_a_gone_folder(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        gone = tmp_path / "gone"
        gone.mkdir()
        script = 'cd "$0" && rmdir "$0" && exec "$@"'
        command = ["sh", "-c", script, gone, *RETRIEVE, *arguments]
        return subprocess.run(command, env=environment(), capture_output=True, check=False)

    done = in_a_gone_folder("query", indexed.picture, "--no-explain", "--store", indexed.store)
    assert done.returncode == 0, done.stderr.decode()
    assert str(indexed.picture) in done.stdout.decode()
    assert sentence(in_a_gone_folder("status")).startswith("the working folder is gone: ")


# Outputs and inputs that are closed, full, or lack letters


@pytest.mark.parametrize(
    "extra",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_a_console_that_lacks_letters(extra: dict[str, Any], indexed: Indexed) -> None:
    arguments = ("query", indexed.picture, indexed.odd(ODD_NAMES[0]), "--no-explain", "--store", indexed.store)
    done = retrieve(*arguments, **extra)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"#########" in done.stdout
    assert retrieve("--help", **extra).returncode == 0


def redirected(arguments: list[str | Path], redirection: str) -> subprocess.CompletedProcess[bytes]:
    command = ["sh", "-c", f'exec "$0" "$@" {redirection}', *RETRIEVE, *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, check=False)


def test_a_closed_standard_input(indexed: Indexed) -> None:
    done = redirected(["query", "-", "--store", indexed.store], "<&-")
    assert sentence(done) == "standard input is empty"


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_a_full_output(form: list[str | Path], indexed: Indexed) -> None:
    done = redirected(["status", "--store", indexed.store, *form], ">/dev/full")
    assert sentence(done) == "the answer cannot be written: No space left on device"


def test_a_reader_that_closes_the_output_gets_no_error(indexed: Indexed) -> None:
    script = f'"$0" "$@" --store {indexed.store} | true; exit ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", script, *RETRIEVE, "status", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False)
    assert done.stderr == b""


@pytest.mark.parametrize("command", ["index", "status"])
def test_only_indexing_says_that_an_interruption_keeps_work(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(chosen: Path | None) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "store_folder", interrupt)
    done = CliRunner().invoke(cli.app, [command])
    assert done.exit_code == 130
    assert ("the same command goes on from there" in done.stderr) == (command == "index")
    assert done.stderr.startswith("error: interrupted")


# The other commands


def test_explain(indexed: Indexed, tmp_path: Path) -> None:
    other = indexed.gallery / "boats" / "1.png"
    result = answer("explain", indexed.picture, other, cwd=tmp_path)
    numbers = {"similarity", "distance", "verdict", "plain_similarity", "plain_distance"}
    assert result.keys() == {"a", "b", "model", "threshold", "similarity_by", "explanation", *numbers}
    assert (result["a"], result["b"]) == (str(indexed.picture), str(other))
    assert (result["similarity_by"], result["plain_distance"]) == ("model", result["distance"])
    assert result["similarity"] == pytest.approx(1 - result["distance"])
    assert result["verdict"] == ("similar" if result["distance"] < 0.5 else "different")
    assert not result["explanation"]["identical"]
    for side, letter in (("query", "a"), ("hit", "b")):
        for kind in ("factual", "counterfactual"):
            assert result["explanation"][side][kind] == f"explanation/{letter}-{kind}.jpg"
            with Image.open(tmp_path / "explanation" / f"{letter}-{kind}.jpg") as overlay:
                assert overlay.size == (224, 140)
    assert (tmp_path / "explanation" / "contact-sheet.png").is_file()
    done = retrieve_here("explain", indexed.picture, indexed.picture, "--out", tmp_path / "same")
    first, second, third = done.stdout.decode().splitlines()
    assert re.fullmatch(r"similarity \d+\.\d % \(the model's own\): similar", first)
    assert second == "identical: nothing to explain"
    assert third == f"contact sheet: {tmp_path / 'same' / 'contact-sheet.png'}"


def test_explain_judges_a_pair_as_a_hit_of_the_store(indexed: Indexed, tmp_path: Path) -> None:
    found = answer("query", indexed.picture, "--top", "12", "--no-explain", "--store", indexed.store)["hits"][-1]
    pair = ("explain", indexed.picture, found["path"], "--method", "gradcam", "--out", tmp_path)
    result = answer(*pair, "--store", indexed.store)
    assert result["similarity_by"] == "gallery"
    assert result["verdict"] == found["verdict"]
    for name in ("similarity", "plain_similarity", "plain_distance"):
        assert result[name] == pytest.approx(found[name], abs=1e-3)
    alone = answer(*pair)
    assert alone["similarity"] == pytest.approx(result["plain_similarity"], abs=1e-6) != result["similarity"]
    assert "(by what is usual in this gallery): " in retrieve_here(*pair, "--store", indexed.store).stdout.decode()
    said = sentence(retrieve_here(*pair, "--store", tmp_path / "none"))
    assert "none" in said


def test_evaluate(indexed: Indexed) -> None:
    measured = answer("evaluate", indexed.gallery, "--seed", "3", "--pool", "100", "--pairs", "5")
    assert measured.keys() == {"seed", "pool", "pairs", "datasets"}
    assert (measured["seed"], measured["pool"], measured["pairs"]) == (3, 100, 5)
    dataset = measured["datasets"][str(indexed.gallery)]
    assert dataset.keys() == {"left_out", "seen", "models"}
    assert (dataset["left_out"], dataset["seen"], dataset["models"].keys()) == (2, 0, {"default"})
    result = dataset["models"]["default"]
    assert result.keys() == {"pictures", "classes", "queries", "index", "rescored", "pairs", "confusions"}
    assert (result["pictures"], result["classes"], result["queries"]) == (PICTURES, 5, PICTURES - 1)
    for order in ("index", "rescored"):
        assert result[order].keys() == {"p_at_1", "p_at_5", "p_at_10", "map_at_100"}
    assert result["pairs"].keys() == PAIR_KEYS
    assert (result["pairs"]["similar"], result["pairs"]["different"]) == (5, 5)
    assert result["pairs"]["reliability"][0].keys() == {"low", "high", "count", "mean", "share"}
    assert result["confusions"].keys() == {"across", "within"}
    done = retrieve_here("evaluate", indexed.gallery)
    assert done.returncode == 0
    assert f"{PICTURES} pictures, 5 classes" in done.stdout.decode()
    assert f"{PICTURES - 1} similar + {PICTURES - 1} different" in done.stdout.decode()
    assert [line.rpartition("/")[2] for line in done.stderr.decode().splitlines()] == [
        f"{SAFE_BROKEN_NAME} is not a picture in a known format",
        "empty.jpg is empty",
    ]
    assert all(line.startswith("left out: ") for line in done.stderr.decode().splitlines())


def test_evaluate_a_trained_model_on_unseen_pictures(indexed: Indexed, tmp_path: Path) -> None:
    """Evaluate it on its own data set, beside another model, with a page; then on the seen pictures too."""
    learnt = sorted(indexed.gallery.glob("*/0.png"))
    model = trained_copy(find_bundle("default"), tmp_path / "mine", indexed.gallery, learnt)
    page = tmp_path / "new" / "how.html"
    done = retrieve_here(
        "evaluate", "--model", "mine", "--against", "default", "--html", page, "--worst", "4", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert f"{PICTURES - 3} pictures, 5 classes" in done.stdout.decode()
    assert done.stdout.decode().splitlines()[-1] == f"page: {page}"
    assert done.stderr.decode().splitlines()[0] == "3 pictures that mine learnt from are left out"
    checked = Checker(page.read_text("utf-8"))
    assert "How well mine tells pictures apart" in checked.text
    assert "3 pictures are left out" in checked.text
    assert 0 < checked.tags.count("article") - 4 <= 4  # four of figures, then the mistakes
    measured = answer("evaluate", "--model", model, "--against", "default", "--seen")["datasets"]
    (dataset,) = measured.values()
    assert dataset["models"].keys() == {str(model), "default"}
    assert dataset["models"][str(model)] == dataset["models"]["default"]  # the same weights
    assert (dataset["seen"], dataset["models"]["default"]["pictures"]) == (0, PICTURES)


def test_evaluate_without_the_data_set_that_a_model_was_trained_on(indexed: Indexed, tmp_path: Path) -> None:
    model = trained_copy(find_bundle("default"), tmp_path / "mine", tmp_path / "gone", [indexed.picture])
    said = sentence(retrieve_here("evaluate", "--model", model))
    assert said == f"{tmp_path}/gone, which {model} was trained on, is not there: give a folder to measure on"


def test_many_files_left_out_of_an_evaluation_are_counted(indexed: Indexed, tmp_path: Path) -> None:
    shutil.copytree(indexed.gallery, tmp_path / "gallery")
    for number in range(23):
        (tmp_path / "gallery" / "cats" / f"empty-{number}.jpg").touch()
    lines = retrieve_here("evaluate", tmp_path / "gallery").stderr.decode().splitlines()
    assert len(lines) == 21
    assert lines[-1] == "left out: 5 more files"


def test_calibrate_and_reset(tmp_path: Path) -> None:
    """Calibrate to three classes of eight pictures, each a pattern of its class in different colours."""
    for number, name in enumerate(("[red]<b>", "boats", "cats")):
        folder = tmp_path / "gallery" / name
        folder.mkdir(parents=True)
        for place in range(8):
            mixed = blocks(100 * number, cells=3) // 2 + blocks(1000 + 10 * number + place, cells=3) // 2
            Image.fromarray(mixed).save(folder / f"{place}.png")
    store, page = tmp_path / "[b]store", tmp_path / "page.html"
    answer("index", tmp_path / "gallery", "--store", store)
    command = ("query", tmp_path / "gallery" / "boats" / "0.png", "--no-explain", "--top", "20", "--store", store)
    plain = answer(*command)
    assert not plain["calibrated"]
    judge = "similarity: by what is usual in this gallery"
    assert f"{judge}; not calibrated to class folders" in retrieve_here("status", "--store", store).stdout.decode()

    done = retrieve_here("calibrate", "--html", page, "--store", store)
    assert done.returncode == 0, done.stderr.decode()
    assert "similarity is calibrated to 24 pictures in 3 classes; measured on pictures that" in done.stdout.decode()
    assert done.stdout.decode().splitlines()[-1] == f"page: {page}"
    assert f"How sure, in {store}" in Checker(page.read_text("utf-8")).text
    result = answer("calibrate", "--seed", "0", "--store", store)
    assert result.keys() == {"store", "calibration", "reliability"}
    assert result["reliability"].keys() == {"before", "after"}
    kept = answer("status", "--store", store)["calibration"]
    assert kept == result["calibration"] | {"in_use": True}
    errors = f"calibration error {kept['before']['error']:.3f} before and {kept['after']['error']:.3f} after"
    assert (
        f"{judge}; calibrated to class folders, {errors}" in retrieve_here("status", "--store", store).stdout.decode()
    )

    found = answer(*command)
    assert found["calibrated"]
    assert [hit["path"] for hit in found["hits"]] == [hit["path"] for hit in plain["hits"]]
    assert [hit["similarity"] for hit in found["hits"]] != [hit["similarity"] for hit in plain["hits"]]
    enough = answer(*command, "--coverage", "0.5")
    assert 1 <= len(enough["hits"]) < 20
    assert enough["hits"] == found["hits"][: len(enough["hits"])]
    assert (enough["coverage"]["coverage"], enough["coverage"]["pictures"]) == (0.5, 24)
    refused = retrieve_here(*command, "--coverage", "0.9")
    assert refused.returncode == 1
    assert "do not carry a coverage of 0.9: ask for at most 0.6" in " ".join(refused.stderr.decode().split())
    assert retrieve_here(*command, "--coverage", "0.5", "--label", "boats").returncode == 2
    assert retrieve_here("calibrate", "--reset", "--store", store).stdout == b"similarity is no longer calibrated\n"
    assert answer("calibrate", "--reset", "--store", store) == {
        "store": str(store),
        "calibration": None,
        "reset": False,
    }
    again = answer(*command)
    assert (again["hits"], again["calibrated"]) == (plain["hits"], False)


def test_status_lists_failures_with_their_reasons(indexed: Indexed) -> None:
    result = answer("status", "--store", indexed.store)
    keys = {"store", "catalogue", "model", "generation", "indexing", "index", "calibration", "galleries", "labels"}
    keys |= {"failures", "index_at", "configuration", "similarity", "passed_over"}
    assert result.keys() == keys
    assert result["calibration"] is None
    assert result["galleries"] == [{"path": str(indexed.gallery), "pictures": PICTURES, "missing": 0, "present": True}]
    assert result["labels"] == ["[", *CLASSES, "odd"]
    assert result["model"]["name"] == "default"
    broken, empty = result["failures"]
    assert (os.fsencode(broken["path"]), broken["reason"]) == (
        indexed.odd(BROKEN_NAME),
        "is not a picture in a known format",
    )
    assert empty == {"path": str(indexed.gallery / "odd" / "empty.jpg"), "reason": "is empty"}
    done = retrieve_here("status", "--failures", "--store", indexed.store)
    lines = [line.strip() for line in done.stdout.decode().splitlines()]
    assert f"{indexed.gallery}/odd/{SAFE_BROKEN_NAME} is not a picture in a known format" in lines
    assert "2 failed" in lines


def test_many_failures_are_counted(tmp_path: Path) -> None:
    (tmp_path / "gallery").mkdir()
    for number in range(25):
        (tmp_path / "gallery" / f"{number:02}.jpg").touch()
    done = retrieve_here("index", tmp_path / "gallery", "--store", tmp_path / "store")
    assert done.returncode == 0
    assert "… and 5 more: `retrieve status --failures` lists them" in done.stdout.decode()
    assert retrieve_here("status", "--store", tmp_path / "store").stdout.count(b".jpg is empty") == 20
    assert retrieve_here("status", "--failures", "--store", tmp_path / "store").stdout.count(b".jpg is empty") == 25


def test_remove(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    odd, folder = indexed.odd(ODD_NAMES[1]), indexed.gallery / "boats"
    removed = answer("remove", odd, folder, "--store", store)["removed"]
    assert removed == {os.fsdecode(odd): 1, str(folder): PICTURES_A_CLASS}
    found = answer("query", folder / "0.png", "--top", "20", "--no-explain", "--store", store)["hits"]
    assert len(found) == PICTURES - 1 - PICTURES_A_CLASS
    assert "boats" not in {hit["label"] for hit in found}
    assert folder.is_dir()
    said = retrieve_here("remove", "apples/1.png", "--store", store, cwd=indexed.gallery).stdout
    assert said == b"1 picture removed from the store\n"


def test_models() -> None:
    listed = answer("models")["models"]
    default = next(model for model in listed if model["name"] == "default")
    keys = {"name", "backbone", "preprocessing", "units", "normalize", "provenance", "metrics", "fingerprint"}
    assert default.keys() >= keys
    assert re.fullmatch(r"[0-9a-f]{64}", default["fingerprint"])
    done = retrieve_here("models")
    assert default["name"] in done.stdout.decode()
    assert default["backbone"] in done.stdout.decode()


# Terminals


def test_output_that_is_no_terminal_gets_neither_escapes_nor_bars(indexed: Indexed, tmp_path: Path) -> None:
    options = ("--store", tmp_path / "store")
    for arguments in (["index", str(indexed.gallery)], ["query", str(indexed.picture)], ["status"]):
        done = retrieve(*arguments, *options, NO_COLOR="")
        assert done.returncode == 0
        assert ESCAPE not in done.stdout + done.stderr
        assert b"\r" not in done.stdout + done.stderr
        assert not done.stderr


def test_a_terminal_without_colours(indexed: Indexed) -> None:
    plain = on_a_terminal("query", indexed.picture, "--no-explain", "--store", indexed.store, NO_COLOR="1")
    assert b"similar" in plain
    assert not re.search(rb"\x1b\[[0-9;]*(3|4|9|10)[0-9]m", plain)
    coloured = on_a_terminal("query", indexed.picture, "--no-explain", "--store", indexed.store, NO_COLOR="")
    assert re.search(rb"\x1b\[[0-9;]*3[0-9]m", coloured)


def test_a_terminal_sees_progress(indexed: Indexed, tmp_path: Path) -> None:
    seen = on_a_terminal("index", indexed.gallery / "cats", "--store", tmp_path / "store", NO_COLOR="")
    assert b"Indexing" in seen
    assert f"{PICTURES_A_CLASS}/{PICTURES_A_CLASS}".encode() in seen
