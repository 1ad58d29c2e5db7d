"""What people expect of a command-line tool: a version, completion, -v and -q, files of defaults, paths."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

import cli
import retrieval
from retrieval.commands.query import DIFFERENT
from tests.support.command import PROJECT, answer, environment, retrieve, retrieve_here, sentence
from tests.support.generated import CLASSES
from tests.support.store import BROKEN_NAME, ODD_NAMES, Indexed
from tests.support.terminal import on_a_terminal

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
Arguments = tuple[str | Path, ...]
MANUAL = (PROJECT / "docs" / "COMMAND_LINE.md").read_text("utf-8")


def write_config(folder: Path, text: str) -> Path:
    """Write a file of defaults, and return it."""
    file = folder / "config.toml"
    file.write_text(text, "utf-8")
    return file


# Version


def test_the_version_is_that_of_the_package() -> None:
    done = retrieve("--version")
    assert done.stdout.decode() == f"retrieve {retrieval.__version__}\n"
    assert not done.stderr


# Completion


def program(folder: Path) -> dict[str, str]:
    """Write a program named `retrieve`, as an installation does; return the environment in which it is found."""
    file = folder / "retrieve"
    file.write_text(f"#!{sys.executable}\nfrom cli import main\nmain()\n")
    file.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return environment({"PATH": path, "PYTHONPATH": os.fspath(PROJECT)})


def output(command: list[str], settings: dict[str, str]) -> str:
    """Return what a program prints."""
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout


def complete(shell: str, line: str, settings: dict[str, str]) -> str:
    """Return what a shell proposes at the end of a line, by the script that `retrieve` prints for it."""
    if shell == "zsh" or shutil.which(shell) is None:  # zsh completes only while a person types
        called = {"_RETRIEVE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
        return output(["retrieve"], settings | called | {"_TYPER_COMPLETE_FISH_ACTION": "get-args"})
    script = output(["retrieve"], settings | {"_RETRIEVE_COMPLETE": f"source_{shell}"})
    if shell == "fish":
        return output(["fish", "-c", f"{script}\ncomplete --do-complete '{line}'"], settings)
    (function,) = re.findall(r"^(_\w+)\(\)", script, re.MULTILINE)
    words = f"COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}"
    return output(["bash", "-c", f"{script}\n{words}\n{function} retrieve\necho ${{COMPREPLY[@]}}"], settings)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_options_and_values(shell: str, tmp_path: Path) -> None:
    settings = program(tmp_path)
    for line, word in (("dup", "duplicates"), ("query --min", "--min-similarity"), ("query --method lay", "layercam")):
        proposed = complete(shell, f"retrieve {line}", settings)
        assert word in proposed
        assert "--confidence" not in proposed


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --com")])
def test_completion_is_installed_by_a_script(shell: str, words: str, tmp_path: Path) -> None:
    settings = program(tmp_path)
    script = output(["retrieve"], settings | {"_RETRIEVE_COMPLETE": f"source_{shell}"})
    assert words in script
    if shutil.which(shell):
        assert output([shell, "-c", "retrieve --show-completion; true"], settings).strip() == script.strip()


# Verbose and quiet


@pytest.mark.parametrize("arguments", [("-v", "query"), ("query", "-v"), ("query", "--verbose")], ids=" ".join)
def test_verbose_logs_steps_beside_the_answer(arguments: tuple[str, ...], indexed: Indexed) -> None:
    rest: Arguments = (indexed.picture, "--no-explain", "--store", indexed.store)
    plain, verbose = retrieve_here("query", *rest), retrieve_here(*arguments, *rest)
    assert not plain.stderr
    assert re.search(rb"^ +\d+\.\d\d s .*\.retrieve", verbose.stderr, re.MULTILINE)
    assert b"candidates" not in verbose.stderr
    assert b"candidates" in retrieve_here("-v", "query", "-v", *rest).stderr
    assert b"Most similar to" in verbose.stdout


def test_a_file_can_make_a_command_verbose(indexed: Indexed, tmp_path: Path) -> None:
    query: Arguments = ("query", indexed.picture, "--no-explain", "--store", indexed.store)
    for count, has_candidates in ((1, False), (2, True)):
        file = os.fspath(write_config(tmp_path, f"verbose = {count}"))
        said = retrieve(*query, RETRIEVE_CONFIG=file).stderr
        assert b"with the model default" in said
        assert (b"candidates" in said) == has_candidates


def test_quiet_keeps_answers_and_errors_only(indexed: Indexed) -> None:
    query: Arguments = ("query", indexed.picture, "--no-explain", "--store", indexed.store, "--label", "nothing")
    assert b"no picture has the label nothing" in retrieve(*query, "--paths").stderr
    assert not retrieve(*query, "--paths", "-q").stderr
    for done in (retrieve("-q", *query), retrieve(*query, "--quiet")):
        assert not done.stderr
        assert b"nothing found" in done.stdout
    assert "gone.jpg does not exist" in sentence(retrieve("-q", "query", "gone.jpg", "--store", indexed.store))


def test_quiet_shows_no_bars(small_gallery: Path, tmp_path: Path) -> None:
    index: Arguments = ("index", small_gallery, "--store", tmp_path / "store")
    assert b"Indexing" not in on_a_terminal("-q", *index)
    shutil.rmtree(tmp_path / "store")
    assert b"Indexing" in on_a_terminal(*index)


# Files of defaults


def test_the_stores_file_wins_over_the_users_and_both_lose(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    user = write_config(tmp_path, f'store = "{store}"\nexplain = false\ntop = 2\n[query]\nmin-similarity = 0.0\n')

    def hits(*arguments: str, top: str = "") -> int:
        result = answer("query", indexed.picture, *arguments, RETRIEVE_CONFIG=os.fspath(user), RETRIEVE_TOP=top)
        return len(result["hits"])

    assert hits() == 2
    write_config(store, "top = 1\n[query]\ntop = 3\n[index]\nengine = 'local'\n")
    assert hits() == 3
    assert hits(top="4") == 4
    assert hits("--top", "1", top="4") == 1


def test_the_users_file_lies_in_the_configuration_folder(indexed: Indexed, tmp_path: Path) -> None:
    (tmp_path / "retrieve").mkdir()
    file = write_config(tmp_path / "retrieve", f'store = "{indexed.store}"')
    done = retrieve("status", "--json", cwd=tmp_path, XDG_CONFIG_HOME=os.fspath(tmp_path), RETRIEVE_CONFIG="")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["configuration"] == [os.fspath(file)]


def test_status_names_the_files_that_are_read(indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    assert answer("status", "--store", store)["configuration"] == []
    files = [os.fspath(write_config(tmp_path, "quiet = true")), os.fspath(write_config(store, "size = 128"))]
    assert answer("status", "--store", store, RETRIEVE_CONFIG=files[0])["configuration"] == files
    shown = retrieve_here("status", "--store", store, RETRIEVE_CONFIG=files[0]).stdout.decode()
    assert all(f"defaults of options: {file}\n" in shown for file in files)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top = ", "{file} is not valid TOML: "),
        ("[querry]\ntop = 3", "{file} has a table [querry], but that is no command: `retrieve --help` lists them"),
        ("[query]\ntops = 3", "{file} sets tops in [query], but that is no option there: `retrieve query --help`"),
        ("[status]\ntop = 3", "{file} sets top in [status], but that is no option there"),
        ("tops = 3", "{file} sets tops, but no command has that option: `retrieve COMMAND --help` lists the options"),
        ("no-explain = true", "{file} sets no-explain, but no command has that option: write explain = false"),
        ("top = 'many'", "{file} has a value of top that does not fit: "),
        ("top = 0", "{file} has a value of top that does not fit: "),
        ("method = 'abacus'", "{file} has a value of method that does not fit: "),
        ("store = 'other'", "{file} sets store, but"),
    ],
)
def test_a_wrong_file_ends_with_one_sentence(text: str, said: str, indexed: Indexed, tmp_path: Path) -> None:
    store = indexed.copy(tmp_path / "store")
    file = write_config(store, text)
    assert said.format(file=file) in sentence(retrieve_here("query", indexed.picture, "--store", store))
    assert retrieve_here("query", "--store", store, "--help").returncode == 0


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    done = retrieve_here("models", RETRIEVE_CONFIG=os.fspath(tmp_path / "gone.toml"))
    assert "gone.toml cannot be used: No such file" in sentence(done)


def test_values_of_lists_and_home_folders_are_taken(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = write_config(home, 'store = "~/pictures"\n[serve]\nallow-host = "a.example"\n[faithfulness]\nmethod = []')
    done = retrieve("serve", HOME=os.fspath(home), RETRIEVE_CONFIG=os.fspath(file))
    assert f"{home}/pictures is not a store" in sentence(done)


# Environment


def option_variables() -> set[str]:
    """Return the environment variables of all options."""
    options = [option for command in COMMANDS.values() for option in command.params]
    return {option.envvar for option in options if option.envvar}


def test_the_manual_lists_every_environment_variable() -> None:
    code = [file.read_text("utf-8") for folder in ("retrieval", "indexes") for file in (PROJECT / folder).rglob("*.py")]
    named = {name for text in code for name in re.findall(r'"(RETRIEVE_[A-Z_]+)"', text)}
    assert named | option_variables() == set(re.findall(r"`(RETRIEVE_[A-Z_]+)`", MANUAL))


def test_an_option_of_several_commands_has_one_variable() -> None:
    for name in ("store", "model", "device", "method", "size", "preview"):
        options = [option for command in COMMANDS.values() for option in command.params if option.name == name]
        assert {option.envvar for option in options} == {f"RETRIEVE_{name.upper()}"}, name


# Paths


def test_paths_of_hits_are_bytes(indexed: Indexed) -> None:
    pictures = [indexed.odd(name) for name in ODD_NAMES]
    done = retrieve_here("query", *pictures, "-0", "--top", "1", "--store", indexed.store)
    assert done.stdout == b"".join(path + b"\0" for path in pictures)
    assert not done.stderr
    lines = retrieve_here("query", indexed.picture, "--paths", "--top", "1", "--store", indexed.store)
    assert lines.stdout == os.fsencode(indexed.picture) + b"\n"


def test_paths_of_a_tars_members_can_be_given_again(indexed: Indexed, tmp_path: Path) -> None:
    tar = Path(shutil.make_archive(os.fspath(tmp_path / "set"), "tar", indexed.gallery / CLASSES[0]))
    store = tmp_path / "store"
    assert retrieve_here("index", tar, "--store", store).returncode == 0
    found = retrieve_here("query", indexed.picture, "--paths", "--top", "1", "--store", store).stdout
    again = retrieve_here("query", found.removesuffix(b"\n"), "--paths", "--top", "1", "--store", store)
    assert again.stdout == found


def test_paths_of_duplicates_are_those_more_than_needed(tmp_path: Path, small_gallery: Path) -> None:
    original = sorted(small_gallery.rglob("*.png"))[0]
    copy = Path(os.fsdecode(os.fsencode(original.parent) + b"/copy \xff.png"))
    shutil.copy(original, copy)
    os.utime(copy, (4e9, 4e9))
    store = tmp_path / "store"
    assert retrieve_here("index", small_gallery, "--store", store).returncode == 0
    done = retrieve_here("duplicates", "--identical", "-0", "--store", store)
    assert done.stdout == os.fsencode(copy) + b"\0"


def test_paths_of_failed_files(indexed: Indexed) -> None:
    done = retrieve_here("status", "-0", "--store", indexed.store)
    assert set(done.stdout.split(b"\0")) == {indexed.odd(BROKEN_NAME), indexed.odd(b"empty.jpg"), b""}


@pytest.mark.parametrize("command", [("query", "a.jpg"), ("duplicates",), ("status",)], ids=" ".join)
def test_paths_are_not_json(command: tuple[str, ...]) -> None:
    assert retrieve_here(*command, "--paths", "--json").returncode == 2


# JSON Lines and exit codes


def test_several_queries_give_json_lines(indexed: Indexed) -> None:
    pictures = [os.fsencode(indexed.picture), indexed.odd(ODD_NAMES[1])]
    done = retrieve_here("query", *pictures, "--json", "--no-explain", "--store", indexed.store)
    lines: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [os.fsencode(line["query"]) for line in lines] == pictures
    assert b"JSON Lines" in retrieve_here("query", "--help").stdout


def test_an_exit_code_tells_the_verdict(indexed: Indexed, tmp_path: Path) -> None:
    other = tmp_path / "grey.png"
    Image.new("RGB", (160, 100), "grey").save(other)
    explain: Arguments = ("explain", indexed.picture, "--out", tmp_path / "out", "-q", "--json")
    codes = {}
    for picture in (indexed.picture, other):
        done = retrieve_here(*explain, picture, "--exit-code")
        codes[json.loads(done.stdout)["verdict"]] = done.returncode
        assert retrieve_here(*explain, picture).returncode == 0
    assert codes == {"similar": 0, "different": DIFFERENT}
    assert retrieve_here(*explain, "gone.jpg", "--exit-code").returncode == 1
    assert f"| {DIFFERENT} |" in MANUAL


# Previews


@pytest.mark.parametrize(
    ("preview", "begin"),
    [("kitty", b"\x1b_Ga=T,f=100,c="), ("iterm", b"\x1b]1337;File=inline=1;"), ("sixel", b"\x1bP9q")],
)
def test_a_preview_shows_the_contact_sheet(preview: str, begin: bytes, indexed: Indexed, tmp_path: Path) -> None:
    shown = on_a_terminal("query", indexed.picture, "--store", indexed.store, "--top", "1", "--preview", preview)
    assert shown.count(begin) == 1
    assert shown.index(b"Most similar to") < shown.index(begin)
    pair: Arguments = ("explain", indexed.picture, indexed.picture, "--out", tmp_path / "out", "--preview", preview)
    assert on_a_terminal(*pair).count(begin) == 1


def test_a_preview_needs_a_terminal(indexed: Indexed) -> None:
    query: Arguments = ("query", indexed.picture, "--store", indexed.store, "--top", "1", "--preview", "kitty")
    done = retrieve(*query)
    assert done.stderr == b"note: --preview shows pictures only in a terminal, so none is shown\n"
    assert b"\x1b" not in done.stdout
    assert not retrieve(*query, "--json").stderr
    assert b"is not known to show pictures" in on_a_terminal(*query[:-1], "auto", TERM="dumb")
