"""How long a whole query takes, beside `import torch, torchvision` alone and beside a plain script (plain_query).

Each run is a new process, timed from its start to its end; they run in turn, after a warm-up of each, so that files are
in the page cache. The store and the plain script's flat index are made before, of the same gallery. With heatmaps, both
sides leave the overlays of five hits on the disk: ours its contact sheet too.

The heaviest imports are seconds of a further run of ours with -X importtime, each package's own modules summed up.

The seconds are this machine's of the day; the ratios are what compares.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from support.galleries import gallery, pictures
from support.machine import (
    RETRIEVE,
    child,
    facts,
    in_turn,
    machine,
    medians,
    prepare,
    process_seconds,
    python,
    sample_lines,
    versions,
    write,
)

PICTURES = 100
ROUNDS = 5
HEAVIEST = 10
EXPLAINED = "retrieve query --out"
BARE = "retrieve query --no-explain"
TORCH = 'python -c "import torch, torchvision"'
PLAIN = "plain script"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--picture", type=Path, help="to ask with [default: the gallery's first, mirrored]")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"to generate [default: {PICTURES}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each [default: {ROUNDS}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folder, chosen.picture, chosen.pictures, chosen.rounds)
    print(report(result))
    write(result, chosen.json)


def measure(
    folder: Path | None, picture: Path | None = None, generated: int = PICTURES, rounds: int = ROUNDS, warm_ups: int = 1
) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, the medians, the ratios, and our heaviest imports."""
    with gallery(folder, generated) as place, tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        count = _index(place, work)
        commands = _commands(picture or _mirrored(pictures(place)[0], work / "question.jpg"), work)
        runs = {name: lambda command=command: process_seconds(command) for name, command in commands.items()}
        in_turn(runs, warm_ups)
        samples = in_turn(runs, rounds)
        imports = _imports(commands[EXPLAINED][1:])
        overlays = {EXPLAINED: _overlays(work / "ours"), PLAIN: _overlays(work / "plain")}
    middle = medians(samples)
    return {
        "machine": machine(),
        "setup": {
            **versions("torch", "torchvision", "timm", "openvino", "faiss-cpu", "grad-cam"),
            "pictures of": folder.name if folder else "generated",
            "pictures": count,
            "overlays": overlays,
            "warm_ups": warm_ups,
            "rounds": rounds,
            "order": "in turn",
        },
        "seconds": samples,
        "medians": middle,
        "ratio_to_plain": middle[EXPLAINED] / middle[PLAIN],
        "ratio_to_import": middle[BARE] / middle[TORCH],
        "import_seconds": imports,
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    imports = ", ".join(f"{name} {seconds * 1000:.0f}" for name, seconds in result["import_seconds"].items())
    return "\n".join(
        [
            *facts(result),
            *sample_lines(result["seconds"]),
            f"heaviest imports of {EXPLAINED}, ms: {imports}",
            f"with heatmaps, beside the plain script: {result['ratio_to_plain']:.3f}",
            f"without heatmaps, beside the import: {result['ratio_to_import']:.3f}",
        ]
    )


def _index(place: Path, work: Path) -> int:
    """Make the store and the flat index; how many pictures both hold."""
    prepare()
    ours = child("indexed", place, work / "store")["pictures"]
    plain = child("plain", place, work / "flat.faiss")["pictures"]
    if ours != plain:
        raise ValueError(f"{place}: the store holds {ours} pictures, the flat index {plain}")
    return int(ours)


def _commands(picture: Path, work: Path) -> dict[str, list[str]]:
    query = [*RETRIEVE, "query", os.fspath(picture), "--top", "5"]
    query += ["--store", os.fspath(work / "store"), "--device", "cpu"]
    script = [os.fspath(path) for path in (picture, work / "flat.faiss", work / "plain")]
    return {
        EXPLAINED: [*query, "--out", os.fspath(work / "ours")],
        BARE: [*query, "--no-explain"],
        TORCH: [sys.executable, "-c", "import torch, torchvision"],
        PLAIN: [*python("plain_query"), *script],
    }


def _mirrored(source: Path, file: Path) -> Path:
    """Write a picture that resembles one of the gallery, but differs: identical pictures have no heatmaps."""
    with Image.open(source) as picture:
        ImageOps.mirror(picture.convert("RGB")).save(file)
    return file


def _overlays(folder: Path) -> int:
    """How many a run has left, its contact sheet not counted."""
    return sum(not path.name.startswith("contact") for path in folder.glob("*.jpg"))


def _imports(arguments: list[str]) -> dict[str, float]:
    """Seconds of the heaviest packages' modules, without what they import in turn."""
    command = [sys.executable, "-X", "importtime", *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    taken: Counter[str] = Counter()
    for line in said.splitlines():
        own, _, name = line.removeprefix("import time:").split("|") if line.count("|") == 2 else ("", "", "")
        if own.strip().isdigit():
            taken[name.strip().partition(".")[0]] += int(own)
    return {name: microseconds / 1e6 for name, microseconds in taken.most_common(HEAVIEST)}


if __name__ == "__main__":
    main()
