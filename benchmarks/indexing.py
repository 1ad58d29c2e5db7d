"""How long indexing takes, beside a plain loop (support.plain) and beside what the machine could do at most.

Three galleries: a folder as it is, pictures of 12 megapixels made of its own, and the same with noise as of a sensor,
whose files are some four times as large: most of their time is entropy decoding, which both sides do alike. Each round
runs, one after the other, each in a new process: our `engine.index` into a new store, the plain loop into a new flat
index, and the parts of the limit (support.limit). Both sides are timed from the loaded model to the index on the disk;
`process` is the whole process. Files are in the page cache, networks prepared before.

The limit is a machine whose cores do nothing but decode and embed, without a gap: 1 / (decode / cores + network)
pictures a second, where decode is the seconds a picture on one thread, and network those on all cores.

--memory measures something else: the peak memory of indexing a few and many pictures, one process for each.

The seconds are this machine's of the day; the ratios are what compares.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from support.galleries import NOISE, gallery, make_altered, make_large, pictures, warm
from support.machine import child, cores, facts, in_turn, machine, medians, prepare, sample_lines, versions, write

from retrieval.store.indexing.pipeline import BATCH_SIZE

PICTURES = 400
COUNT = 200
ROUNDS = 3
SIZES = (1_000, 20_000)
OURS = "retrieve"
PLAIN = "plain loop"
LIMIT = "limit"
AS_IT_IS = "as it is"
LARGE = "12 megapixels"
NOISY = "12 megapixels with noise"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"to generate [default: {PICTURES}]")
    parser.add_argument("--count", type=int, default=COUNT, help=f"of 12 megapixels [default: {COUNT}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each [default: {ROUNDS}]")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="for --memory [default: 1000 20000]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    if chosen.memory:
        result = measure_memory(chosen.folder, chosen.pictures, tuple(chosen.sizes))
    else:
        result = measure(chosen.folder, chosen.pictures, chosen.count, chosen.rounds)
    print(report_memory(result) if chosen.memory else report(result))
    write(result, chosen.json)


def measure(
    folder: Path | None,
    generated: int = PICTURES,
    count: int = COUNT,
    rounds: int = ROUNDS,
    warm_up: bool = True,
    kinds: Sequence[str] = (AS_IT_IS, LARGE, NOISY),
) -> dict[str, Any]:
    """Return the machine, the set-up, and for each gallery every sample, the medians, the ratio and the limit."""
    with gallery(folder, generated) as small, tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        make_large(pictures(small), work / "large", count)
        make_large(pictures(small), work / "noisy", count, NOISE)
        prepare()
        if warm_up:
            make_large(pictures(small), work / "one", 1)
            _compared(work / "one", 1)
        places = {AS_IT_IS: small, LARGE: work / "large", NOISY: work / "noisy"}
        found = {name: _compared(places[name], rounds) for name in kinds}
    setup = _setup(folder) | {
        OURS: f"batches of {BATCH_SIZE}, default model, CPU",
        PLAIN: "batches of 32, 2 workers, eager float32 torch, flat index",
        "rounds": rounds,
        "order": "in turn, each in a new process",
    }
    return {"machine": machine(), "setup": setup, "galleries": found}


def measure_memory(folder: Path | None, generated: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Return the machine, the set-up, and the peak memory and seconds of indexing each number of pictures."""
    found: dict[str, dict[str, Any]] = {}
    prepare()
    with gallery(folder, generated) as small:
        for size in sizes:
            with tempfile.TemporaryDirectory() as work:
                make_altered(pictures(small), Path(work, "gallery"), size)
                found[str(size)] = child("indexed", Path(work, "gallery"), Path(work, "store"))
    peaks = [taken["peak"] for taken in found.values()]
    return {"machine": machine(), "setup": _setup(folder), "galleries": found, "ratio": peaks[-1] / peaks[0]}


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [line for name, found in result["galleries"].items() for line in ["", f"{name}:", *_gallery_lines(found)]]
    return "\n".join([*facts(result), *lines])


def report_memory(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [
        f"{int(size):,} pictures, {found['embedded']:,} embedded: peak {found['peak'] / 1e9:.3f} GB"
        f" in {found['seconds']:.1f} s"
        for size, found in result["galleries"].items()
    ]
    return "\n".join([*facts(result), *lines, f"the last one's peak is {result['ratio']:.3f} times the first one's"])


def _setup(folder: Path | None) -> dict[str, Any]:
    packages = versions("torch", "torchvision", "timm", "openvino", "faiss-cpu", "pillow")
    return {**packages, "pictures of": folder.name if folder else "generated"}


def _compared(place: Path, rounds: int) -> dict[str, Any]:
    """One gallery's samples and what follows from them."""
    size, count = warm(place), len(pictures(place))
    runs = in_turn(
        {OURS: lambda: _ours(place), PLAIN: lambda: _plain(place), LIMIT: lambda: child("limit", place)}, rounds
    )
    parts = {name: [run[name] for run in runs[LIMIT]] for name in ("decode", "read", "resize", "hash", "network")}
    sides = {name: runs[name] for name in (OURS, PLAIN)}
    _check(place, count, [run for side in sides.values() for run in side])
    seconds = {name: [run["seconds"] for run in taken] for name, taken in sides.items()}
    middle, part = medians(seconds), medians(parts)
    embedded = runs[OURS][0]["embedded"]  # equal contents count once
    most = 1 / (part["decode"] / cores() + part["network"])
    return {
        "pictures": count,
        "embedded": embedded,
        "bytes_a_picture": size / count,
        "seconds": seconds,
        "process_seconds": {name: [run["process"] for run in taken] for name, taken in sides.items()},
        "peak_bytes": {name: [run["peak"] for run in taken] for name, taken in sides.items()},
        "worker_peak_bytes": [run["peak of a worker"] for run in runs[PLAIN]],
        "limit_seconds_a_picture": parts,
        "limit_pictures_a_second": most,
        "medians": middle,
        "pictures_a_second": {name: count / taken for name, taken in middle.items()},
        "ratio": middle[PLAIN] / middle[OURS],
        "share_of_limit": embedded / middle[OURS] / most,
    }


def _ours(place: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        return child("indexed", place, Path(work, "store"))


def _plain(place: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        return child("plain", place, Path(work, "flat.faiss"))


def _check(place: Path, count: int, runs: list[dict[str, Any]]) -> None:
    taken = {run["pictures"] for run in runs}
    if taken != {count}:
        raise ValueError(
            f"{place} has {count} pictures, but the runs took {sorted(taken)}: give one without broken files"
        )


def _gallery_lines(found: dict[str, Any]) -> list[str]:
    rates, parts = found["pictures_a_second"], found["limit_seconds_a_picture"]
    peaks = {name: median(taken) / 1e9 for name, taken in found["peak_bytes"].items()}
    return [
        f"{found['pictures']} pictures of {found['bytes_a_picture'] / 1e6:.2f} MB, {found['embedded']} embedded",
        *sample_lines(found["seconds"]),
        *[f"whole process, {line}" for line in sample_lines(found["process_seconds"])],
        *sample_lines(parts, "ms a picture", 1000),
        f"peak memory: {peaks[OURS]:.2f} GB, {PLAIN} {peaks[PLAIN]:.2f} GB"
        f" and {median(found['worker_peak_bytes']) / 1e9:.2f} GB in each worker",
        f"{rates[OURS]:.1f} pictures/s, {PLAIN} {rates[PLAIN]:.1f}: {found['ratio']:.2f} times as fast",
        f"limit {found['limit_pictures_a_second']:.1f} pictures/s: {found['share_of_limit']:.1%} of it reached",
    ]


if __name__ == "__main__":
    main()
