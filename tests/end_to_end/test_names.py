"""Names as people type and read them: whole at any width; one thing by any name; nothing left out without a word."""

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import answer, retrieve_here
from tests.support.photographs import photograph
from tests.support.store import Indexed

LONG = "2024/Holiday at the sea with the whole family/selected and edited"
NAME, BROKEN = "IMG_20240610_101112_HDR_edited_final.jpg", "IMG_20240619_101112_HDR_edited_broken.jpg"


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store `s` of a gallery `g`, whose pictures lie deep: two equal ones and a broken file."""
    top = tmp_path_factory.mktemp("long")
    (top / "g" / LONG).mkdir(parents=True)
    for seed in range(4):
        photograph(seed).save(top / "g" / LONG / NAME.replace("0610", f"061{seed}"))
    shutil.copy(top / "g" / LONG / NAME, top / "g" / "copy.jpg")
    (top / "g" / LONG / BROKEN).touch()
    assert retrieve_here("index", "g", "--store", "s", cwd=top).returncode == 0
    return top


COMMANDS = {
    "index": ("g",),
    "query": ("g/copy.jpg", "--no-explain", "--no-collapse"),
    "duplicates": (),
    "status": (),
    "remove": (f"g/{LONG}/{NAME}x",),
}


@pytest.mark.parametrize(
    ("command", "columns"), [*((each, width) for each in COMMANDS for width in ("40", None)), ("query", "80")]
)
def test_no_path_is_broken_at_any_width(long_names: Path, command: str, columns: str | None) -> None:
    done = retrieve_here(command, *COMMANDS[command], "--store", "s", cwd=long_names, COLUMNS=columns or "")
    shown = (done.stdout + done.stderr).decode()
    expected = BROKEN if command in ("index", "status") else NAME
    assert [line for line in shown.splitlines() if f"{LONG}/{expected}" in line], shown
    if columns == "40":
        assert len(done.stdout.splitlines()) < 40
    if columns is None and command == "query":
        row = next(line for line in shown.splitlines() if f"{LONG}/{NAME}" in line)
        assert re.search(r"100.0 % +similar", row)


def test_a_pipe_gets_no_wrapped_line(long_names: Path) -> None:
    done = retrieve_here("query", "g/copy.jpg", "--no-explain", "--store", "s", cwd=long_names, COLUMNS="")
    assert all(line.lstrip()[:1].isdigit() for line in done.stdout.decode().splitlines() if ".jpg " in line[3:])
    assert NAME.replace("0610", "0613") in done.stdout.decode()
    assert "g/copy.jpg (and 1 more)" in done.stdout.decode()


def test_equal_files_are_one_hit_unless_each_is_to_be_seen(long_names: Path) -> None:
    def hits(*options: str) -> list[tuple[str, int]]:
        found = answer("query", "g/copy.jpg", "--store", "s", "--no-explain", *options, cwd=long_names)["hits"]
        assert [each["rank"] for each in found] == list(range(1, len(found) + 1))
        return [(Path(each["path"]).name, len(each["copies"])) for each in found]

    equal, every = hits(), hits("--no-collapse")
    assert (equal[0], len(equal), len(hits("--collapse"))) == (("copy.jpg", 1), 4, 4)
    assert (sorted(every)[-1], len(every)) == (("copy.jpg", 0), 5)


def test_copies_do_not_crowd_out_other_pictures(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    for seed in range(3):
        photograph(seed).save(tmp_path / "g" / f"{seed}.jpg")
    for number in range(40):
        shutil.copy(tmp_path / "g" / "0.jpg", tmp_path / "g" / f"copy-{number}.jpg")
    retrieve_here("index", "g", "--store", "s", cwd=tmp_path)
    found = answer("query", "g/0.jpg", "--store", "s", "--no-explain", "--pool", "5", cwd=tmp_path)["hits"]
    assert (Path(found[0]["path"]).name, len(found[0]["copies"])) == ("0.jpg", 40)
    assert {Path(each["path"]).name for each in found} == {"0.jpg", "1.jpg", "2.jpg"}


def test_a_moved_gallery_yields_to_its_new_place_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    for seed in range(3):
        photograph(seed).save(tmp_path / "old" / f"{seed}.jpg")
    retrieve_here("index", "old", "--store", "s", cwd=tmp_path)
    os.rename(tmp_path / "old", tmp_path / "new" / "old")
    done = retrieve_here("index", "new", "--store", "s", cwd=tmp_path)
    assert f"{tmp_path}/old is not there now" in done.stdout.decode()
    for options in ((), ("--no-collapse",)):
        hits = answer("query", "new/old/0.jpg", "--store", "s", "--no-explain", *options, cwd=tmp_path)["hits"]
        assert {each["path"] for each in hits} == {f"{tmp_path}/new/old/{seed}.jpg" for seed in range(3)}
    os.symlink(tmp_path / "new" / "old", tmp_path / "linked")
    os.symlink(tmp_path / "new" / "old", tmp_path / "new" / "linked")
    os.rename(tmp_path / "new" / "old", tmp_path / "third")
    os.symlink(tmp_path / "third", tmp_path / "new" / "old")
    for gallery in ("linked", "third", "new"):
        assert answer("index", gallery, "--store", "s", cwd=tmp_path)["embedded"] == 0
    hits = answer("query", "third/0.jpg", "--store", "s", "--no-explain", "--no-collapse", cwd=tmp_path)["hits"]
    assert len(hits) == 3
    galleries = answer("status", "--store", "s", cwd=tmp_path)["galleries"]
    assert [each["present"] for each in galleries] == [True, False, True]
    assert "(not there now)" in retrieve_here("status", "--store", "s", cwd=tmp_path).stdout.decode()


def test_what_is_left_out_is_counted_by_its_reason(tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    (gallery / "sub" / ".hidden").mkdir(parents=True)
    (gallery / ".retrieve").mkdir()
    for name in ("contact-sheet.png", "a-factual.jpg", "plain.jpg", ".x.jpg", "sub/.hidden/y.jpg", "note.txt"):
        photograph(1).save(gallery / name, "PNG")
    os.symlink(gallery / "sub", gallery / "linked")
    expected = {"hidden names": 2, ".txt": 1, "folders that are there by another name, too": 1}
    report = answer("index", "g", "--store", "s", cwd=tmp_path)
    own = next(count for reason, count in report["passed_over"].items() if reason.startswith("names of what"))
    assert (report["added"], own) == (1, 2)
    assert expected.items() <= report["passed_over"].items()
    (tmp_path / "other").mkdir()
    photograph(2).save(tmp_path / "other" / "1.jpg")
    answer("index", "other", "--store", "s", cwd=tmp_path)
    assert answer("status", "--store", "s", cwd=tmp_path)["passed_over"] == report["passed_over"]
    shown = retrieve_here("status", "--store", "s", cwd=tmp_path).stdout.decode()
    assert "left out: hidden names: 2; names of what `retrieve` writes" in shown


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "film.mov").touch()
    done = retrieve_here("index", "empty", "--store", "s", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode() == f"error: {tmp_path}/empty holds no pictures: check the name\n"
    assert "1 .mov" in done.stdout.decode()
    assert retrieve_here("index", "--store", "s", cwd=tmp_path).returncode == 0


def test_a_file_that_is_edited_with_its_time_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "g" / "1.bmp"
    path.parent.mkdir()
    photograph(1).save(path)
    store = ("--store", "s")
    answer("index", "g", *store, cwd=tmp_path)
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert answer("index", "g", *store, cwd=tmp_path)["embedded"] == 1
    with sqlite3.connect(tmp_path / "s" / "catalogue.sqlite") as database:  # as if it was recorded before
        assert database.execute("UPDATE pictures SET ctime = NULL").rowcount == 1
    assert answer("index", "g", *store, cwd=tmp_path)["unchanged"] == 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert answer("index", "g", *store, cwd=tmp_path)["embedded"] == 1
    forced = answer("index", "g", "--force", *store, cwd=tmp_path)
    assert (forced["embedded"], forced["unchanged"]) == (1, 0)


@pytest.mark.parametrize("option", ["--store=~/s", "RETRIEVE_STORE"])
def test_a_tilde_is_the_home_folder_wherever_it_is_given(tmp_path: Path, option: str) -> None:
    (tmp_path / "home" / "Pictures").mkdir(parents=True)
    photograph(1).save(tmp_path / "home" / "Pictures" / "1.jpg")
    extra: Any = {"HOME": str(tmp_path / "home"), "USERPROFILE": str(tmp_path / "home")}
    options = [option] if option.startswith("-") else []
    extra |= {} if options else {option: "~/s"}
    assert retrieve_here("index", "~/Pictures", *options, cwd=tmp_path, **extra).returncode == 0
    picture = ("~/Pictures/1.jpg", "--folder=~/Pictures", "--no-explain")
    assert len(answer("query", *picture, *options, cwd=tmp_path, **extra)["hits"]) == 1
    assert answer("remove", "~/Pictures", *options, cwd=tmp_path, **extra)["removed"]
    assert sorted(os.listdir(tmp_path)) == ["home"]
    assert sorted(os.listdir(tmp_path / "home")) == ["Pictures", "s"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("query", "g"), "g is a folder, not a picture"),
        (("query", "x.txt"), "x.txt is a list of pictures, not a picture"),
        (("query", "x.tar"), "x.tar is a tar of pictures, not a picture"),
        (("explain", "x.jpg", "g"), "g is a folder, not a picture"),
        (("index", "x.jpg"), "x.jpg is a picture: give the folder that holds it"),
    ],
)
def test_a_message_names_what_was_given(indexed: Indexed, tmp_path: Path, typed: tuple[str, ...], said: str) -> None:
    (tmp_path / "g").mkdir()
    for name in ("x.txt", "x.tar"):
        (tmp_path / name).touch()
    photograph(1).save(tmp_path / "x.jpg")
    done = retrieve_here(*typed, "--store", indexed.store, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"error: {said}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--folder", "2042"), "below the folder 2042; there are galleries: "),
        (("--label", "nobody"), "no picture has the label nobody; there are"),
        (("--since", "2030"), "none is in any time"),
        (("--min-similarity", "1", "--label", "boats"), "less than --min-similarity 1"),
    ],
)
def test_an_empty_answer_says_why(indexed: Indexed, options: tuple[str, ...], said: str) -> None:
    query = ("query", str(indexed.picture), "--no-explain", "--store", str(indexed.store), *options)
    done = retrieve_here(*query, "--json")
    assert done.returncode == 0
    assert said in json.loads(done.stdout)["nothing"]
    assert said in done.stderr.decode()


def test_filters_of_duplicates_take_any_name_and_say_if_they_select_nothing(long_names: Path) -> None:
    (long_names / "link").symlink_to("g", target_is_directory=True)
    found = answer("duplicates", "--identical", "--folder", "link", "--store", "s", cwd=long_names)
    assert (found["pictures"], len(found["groups"])) == (5, 1)
    for options in (("--folder", "h"), ("--since", "2020"), ("--label", "x")):
        done = retrieve_here("duplicates", *options, "--store", "s", cwd=long_names)
        assert done.returncode == 0
        assert re.match("note: no picture ", done.stderr.decode())


def test_a_large_group_of_copies_leaves_room_for_others(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    for seed, copies in ((0, 30), (1, 2)):
        photograph(seed).save(tmp_path / "g" / f"{seed}.jpg")
        for number in range(copies):
            shutil.copy(tmp_path / "g" / f"{seed}.jpg", tmp_path / "g" / f"{seed}-{number}.jpg")
    retrieve_here("index", "g", "--store", "s", cwd=tmp_path)
    shown = retrieve_here("duplicates", "--identical", "--store", "s", cwd=tmp_path).stdout.decode()
    assert "… and 11 more" in shown
    assert shown.count("g/0") == 20
    assert shown.count("g/1") == 3


def test_one_file_under_several_names_is_said_to_be_no_copy(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    photograph(1).save(tmp_path / "g" / "1.jpg")
    os.link(tmp_path / "g" / "1.jpg", tmp_path / "g" / "hard.jpg")
    os.symlink("1.jpg", tmp_path / "g" / "soft.jpg")
    retrieve_here("index", "g", "--store", "s", cwd=tmp_path)
    found = answer("duplicates", "--store", "s", cwd=tmp_path)
    assert (found["groups"], found["spare"]) == ([], 0)
    assert sorted(found["linked"][0]) == [f"{tmp_path}/g/{name}.jpg" for name in ("1", "hard", "soft")]
    shown = retrieve_here("duplicates", "--store", "s", cwd=tmp_path).stdout.decode()
    assert "One file under several names, which is no copy:\n  g/" in shown
    assert shown.count("\n   also g/") == 2
