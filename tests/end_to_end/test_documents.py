"""The documentation: its code runs, its commands are commands, its notebook shows heatmaps, its site can be built."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import cli
from retrieval.commands.demo_gallery import make_gallery
from tests.support.command import PROJECT, retrieve, retrieve_here

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^    ((?:retrieve|cp) (?:.*\\\n)*.*)$", re.MULTILINE)
COMMANDS = {
    (document.name, " ".join(shlex.split(command.replace("\\\n", ""), comments=True)))
    for document in DOCUMENTS
    for command in COMMAND.findall(document.read_text("utf-8"))
}
OUTPUT = re.compile(r"^    (retrieve .*)\n\n((?:(?:    (?!retrieve |pip |make |cp ).*)?\n)+)", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
DURATION = re.compile(NUMBER.pattern + r"(?= (?:ms|s|pictures/s)\b)")
DRAWN = re.compile(r"[\s─█▉▊▋▌▍▎▏]+")  # rules and bars: their length depends on the width
OF_THE_STORE = ("status", "models", "tune --recall", "calibrate --html", "duplicates --html")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demo's pictures in `demo/`."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("documents")
    make_gallery(folder / "demo")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("document", [each for each in DOCUMENTS if PYTHON.search(each.read_text("utf-8"))], ids=str)
def test_python_code_runs_unchanged(document: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = document.read_text("utf-8")
    if "load_model" in text:
        pytest.importorskip("torch")
    monkeypatch.chdir(demo)
    names: dict[str, Any] = {}
    for block in PYTHON.finditer(text):
        above = text[: block.start(1)].count("\n")
        exec(compile("\n" * above + block[1], document, "exec"), names)
    names["engine"].close()


@pytest.mark.parametrize(("document", "command"), sorted(each for each in COMMANDS if each[1].startswith("retrieve ")))
def test_a_documented_command_has_these_options(document: str, command: str) -> None:
    _, name, *arguments = shlex.split(command.partition(" | ")[0])
    with typer.main.get_command(cli.app).commands[name].make_context(name, arguments):  # type: ignore[attr-defined]
        pass


def runnable() -> Iterator[str]:
    """Yield the README's commands that need nothing but the demo's pictures and store, in its order."""
    for found in COMMAND.findall((PROJECT / "README.md").read_text("utf-8")):
        command = " ".join(shlex.split(found.replace("\\\n", ""), comments=True))
        if " demo/" in command or command.removeprefix("retrieve ").startswith(OF_THE_STORE):
            yield command


def shown_outputs() -> dict[str, list[str]]:
    """Return the lines that the README shows for its commands, but for those that it leaves out."""
    text = (PROJECT / "README.md").read_text("utf-8")
    shown = {shlex.join(shlex.split(command, comments=True)): lines for command, lines in OUTPUT.findall(text)}
    return {command: [line for line in lines.splitlines() if line.strip(" ─…")] for command, lines in shown.items()}


def words_and_figures(line: str) -> tuple[str, list[str]]:
    """Return a line with # for each number, and the numbers that are no durations."""
    line = DURATION.sub("#", DRAWN.sub(" ", line).strip())
    return NUMBER.sub("#", line), NUMBER.findall(line)


def agree(shown: str, printed: str) -> bool:
    """Compare two lines: words and whole numbers must be equal, other figures nearly so on any processor."""
    (words, figures), (printed_words, printed_figures) = words_and_figures(shown), words_and_figures(printed)
    return words == printed_words and all(
        float(one.replace(",", "")) == pytest.approx(float(other.replace(",", "")), rel=0.05 if "." in one else 0)
        for one, other in zip(figures, printed_figures, strict=True)
    )


@pytest.mark.slow
def test_the_readme_can_be_typed(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")  # for `retrieve fit`
    shutil.copytree(demo / "demo", tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    commands, shown = list(runnable()), shown_outputs()
    assert len(commands) > 10
    assert len(shown.keys() & set(commands)) >= 4
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "cp":
            shutil.copy(*arguments)
            continue
        lines = shown.pop(command, [])  # of its first run: a second one may have nothing to do
        done = (retrieve if lines else retrieve_here)(*arguments)  # in this process, few regions are hidden
        assert done.returncode == 0, (command, done.stderr)
        printed = (done.stdout + done.stderr).decode().splitlines()
        missing = [line for line in lines if not any(agree(line, each) for each in printed)]
        assert not missing, (command, printed)
    assert (tmp_path / "results" / "contact-sheet.png").is_file()
    assert (tmp_path / "mine-store").is_dir()


@pytest.mark.slow
def test_the_notebook_shows_hits_with_heatmaps(demo: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(PROJECT / "docs" / "similar-pictures.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # small in git
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(demo)}}).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    hits, pair = [data["text/html"] for data in shown if "text/html" in data]
    assert hits.count("data:image/jpeg;base64,") == 1 + 3 * 5
    assert pair.count("data:image/jpeg;base64,") == 1 + 5
    assert any("image/png" in data for data in shown)
    assert (demo / "demo" / "notebook" / "contact-sheet.png").is_file()


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_needs_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {page.name: page.read_text("utf-8") for page in tmp_path.glob("*.html")}
    assert {"index.html", "API.html", "PYTHON.html", "SCALING.html"} <= pages.keys()
    assert 'id="retrieval.Engine.query"' in pages["API.html"]
    assert 'href="PYTHON.html"' in pages["index.html"]
    assert {name for name, text in pages.items() if re.search(r'<(?:script|link|img)[^>]*="https?:', text)} == set()
