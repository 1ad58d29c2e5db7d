"""The main job as a person does it from a folder of their own: index, query, explain, find copies, and serve."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from PIL import Image

from tests.support.command import environment
from tests.support.generated import blocks

CLASSES = ("apples", "boats")
_PICTURES = 5  # of each class
_ANSWER_SECONDS = 60


def do_main_job(retrieve: Sequence[str], folder: Path, **extra: str) -> None:
    """Do it with this command in this folder, which is empty; `extra` goes into its environment."""

    def answer(*arguments: str) -> Any:
        command = [*retrieve, *arguments, "--json"]
        done = subprocess.run(command, cwd=folder, env=environment(extra), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    _make_pictures(folder)
    assert answer("index", "gallery")["added"] == len(CLASSES) * _PICTURES + 1
    assert answer("index")["unchanged"] == len(CLASSES) * _PICTURES + 1
    query = ("query", "question.jpg", "--top", "3", "--out", "results", "--html", "results.html")
    first = answer(*query)["hits"][0]
    assert (Path(first["path"]), first["label"]) == (folder.resolve() / "gallery" / "boats" / "2.jpg", "boats")
    assert len(list((folder / "results").glob("hit-*.jpg"))) == 3 * 8
    assert (folder / "results" / "contact-sheet.png").stat().st_size > 10_000
    assert (folder / "results.html").read_text("utf-8").count("<figure") >= 3
    assert answer("query", "question.jpg", "--folder", "gallery/apples", "--no-explain")["hits"][0]["label"] == "apples"
    answer("explain", "question.jpg", first["path"], "--out", "why")
    assert (folder / "why" / "contact-sheet.png").exists()
    (group,) = answer("duplicates", "--identical")["groups"]
    assert {Path(each["path"]).name for each in group["pictures"]} == {"0.jpg", "again.jpg"}
    assert sum(answer("remove", "gallery/apples/again.jpg")["removed"].values()) == 1
    _serve([*retrieve, "serve", "--port", "0"], folder, extra)


def _make_pictures(folder: Path) -> None:
    for number, label in enumerate(CLASSES):
        (folder / "gallery" / label).mkdir(parents=True)
        for nth in range(_PICTURES):
            Image.fromarray(blocks(100 * number + nth)).save(folder / "gallery" / label / f"{nth}.jpg")
    again = (folder / "gallery" / "apples" / "0.jpg").read_bytes()
    (folder / "gallery" / "apples" / "again.jpg").write_bytes(again)
    Image.fromarray(blocks(102)).save(folder / "question.jpg", quality=80)


def _serve(command: Sequence[str], folder: Path, extra: dict[str, str]) -> None:
    """Serve, fetch the page and the files that it names, upload a picture, and fetch an overlay of its first hit."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            found = re.search(r"http://\S+/", process.stdout.readline().decode())
            assert found, process.stderr.read().decode()
            address = found[0]
            page = _get(address).decode()
            named = re.findall(r'(?:src|href)="(static/[^"]+)"', page)
            assert {Path(name).suffix for name in named} == {".svg", ".css", ".js"}
            assert all(_get(address + name) for name in [*named, "docs", "colours.json"])
            picture = (folder / "question.jpg").read_bytes()
            upload = json.loads(_get(Request(f"{address}api/uploads", picture, method="POST")))["upload"]
            hit = json.loads(_get(f"{address}api/query?upload={upload}&top=1"))["hits"][0]
            assert hit["picture"]["name"] == "2.jpg"
            assert _get(f"{address}{hit['picture']['image']}").startswith(b"\xff\xd8")
        finally:
            process.terminate()
        assert process.wait(_ANSWER_SECONDS) in (0, 1)  # Windows ends it with 1


def _get(address: str | Request) -> bytes:
    with urlopen(address, timeout=_ANSWER_SECONDS) as response:
        content = response.read()
        assert isinstance(content, bytes)
        return content
