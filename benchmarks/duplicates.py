"""Duplicates in a folder of pictures with copies of some: which are found, what is joined wrongly, and in what time.

Copies are made of some pictures: renamed, resized, recompressed and cropped (copies.py). The whole is indexed, and
searched for duplicates as `retrieve duplicates` does it. Beside it, in the same run on the same files: the perceptual
hashes of the public `imagededup` package at their default thresholds, and what the stored descriptors say by
themselves, from a cosine of .9 on (the default of imagededup's CNN, which is left out, as its weights are a download).

A copy is found if it is in one group with its original. Groups that hold more than one original are reported with their
files: a folder may have duplicates of its own, so look at them. Each way tells pairs, which make groups by what they
join; those of imagededup are not meant to be chained, so pairs of two originals are counted too.
"""

import argparse
import logging
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.copies import KINDS, ORIGINALS, make_copies
from support.galleries import gallery
from support.machine import facts, in_turn, machine, prepare, sample_lines, versions, write

from retrieval.engine import Engine
from retrieval.store.duplicates.search import MIN_AGREEMENT, DuplicateRules

PICTURES, COPIED, ROUNDS = 300, 100, 3
ALIKE = 0.9
HASHES = ("PHash", "DHash", "WHash", "AHash")
OURS, DESCRIPTORS = "retrieve duplicates", f"descriptors alone, from {ALIKE}"

Pairs = list[tuple[Path, Path]]
Groups = list[set[Path]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"to generate [default: {PICTURES}]")
    parser.add_argument("--copied", type=int, default=COPIED, help=f"pictures to copy [default: {COPIED}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each [default: {ROUNDS}]")
    parser.add_argument("--no-imagededup", action="store_true", help="leave out imagededup")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folder, chosen.pictures, chosen.copied, chosen.rounds, not chosen.no_imagededup)
    print(report(result))
    write(result, chosen.json)


def measure(
    folder: Path | None, count: int = PICTURES, copied: int = COPIED, rounds: int = ROUNDS, with_imagededup: bool = True
) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, and each method's recall by kind and false groups."""
    prepare()
    with (
        gallery(folder, count) as source,
        tempfile.TemporaryDirectory() as made,
        tempfile.TemporaryDirectory() as store,
    ):
        place = Path(made).resolve()
        sources = make_copies(source, place, copied)
        engine = Engine.create(store, device="cpu")
        engine.load()
        started = time.perf_counter()
        files = engine.index(place).added
        indexing = time.perf_counter() - started
        ways: dict[str, Callable[[], Pairs]] = {
            OURS: lambda: found_by(engine, DuplicateRules()),
            DESCRIPTORS: lambda: found_by(engine, DuplicateRules(near=None, alike=ALIKE)),
        }
        if with_imagededup:
            ways |= {name: hashed(name, place) for name in HASHES}
        samples = in_turn({name: lambda find=find: _timed(find) for name, find in ways.items()}, rounds)  # type: ignore[misc]
        engine.close()
        found = {name: judged(place, runs[-1][1], sources, source) for name, runs in samples.items()}
    return {
        "machine": machine(),
        "setup": {
            **versions("openvino", "faiss-cpu", "pillow", *["imagededup"] * with_imagededup),
            "pictures of": folder.name if folder else "generated",
            "originals": len(sources),
            "copied": min(copied, len(sources)),
            "files": files,
            "near": MIN_AGREEMENT,
            "rounds": rounds,
            "order": "in turn",
        },
        "indexing_seconds": indexing,
        "seconds": {name: [seconds for seconds, _ in runs] for name, runs in samples.items()},
        "found": found,
    }


def found_by(engine: Engine, rules: DuplicateRules) -> Pairs:
    """Ours, of a gallery that is indexed already: each picture of a group with its first."""
    groups = [[Path(member.path) for member in group.members] for group in engine.duplicates(rules).groups]
    return [(first, other) for first, *others in groups for other in others]


def hashed(name: str, folder: Path) -> Callable[[], Pairs]:
    """Find duplicates by a hash of imagededup at its defaults, starting from the files."""
    import imagededup.methods

    logging.disable(logging.INFO)
    method = getattr(imagededup.methods, name)(verbose=False)

    def find() -> Pairs:
        pairs = method.find_duplicates(image_dir=folder, recursive=True)
        return [(folder / one, folder / other) for one, others in pairs.items() for other in others]

    return find


def joined(pairs: Pairs) -> Groups:
    """Return the groups that the pairs form, directly or through others."""
    beside: dict[Path, set[Path]] = defaultdict(set)
    for one, other in pairs:
        beside[one].add(other)
        beside[other].add(one)
    groups: Groups = []
    left = set(beside)
    while left:
        group, open_ = set[Path](), [left.pop()]
        while open_:
            path = open_.pop()
            group.add(path)
            new = beside[path] & left
            left -= new
            open_ += new
        groups.append(group)
    return groups


def judged(folder: Path, pairs: Pairs, sources: dict[str, Path], source: Path) -> dict[str, Any]:
    """By kind the share of copies that are with their original, and the originals that are in one group."""
    groups = joined(pairs)
    group_of = {path: number for number, group in enumerate(groups) for path in group}
    originals = {path.stem: path for path in (folder / ORIGINALS).iterdir()}
    recall = {}
    for kind in KINDS:
        copies = list((folder / kind).iterdir())
        with_it = [group_of.get(copy, -1) == group_of.get(originals[copy.stem], -2) for copy in copies]
        recall[kind] = sum(with_it) / len(copies)
    several = [sorted({path.stem for path in group}) for group in groups]
    names = [[str(sources[stem].relative_to(source)) for stem in stems] for stems in several if len(stems) > 1]
    return {
        "recall": recall,
        "groups": len(groups),
        "groups of several originals": len(names),
        "the largest": max(map(len, names), default=0),
        "pairs of two originals": len({frozenset((a.stem, b.stem)) for a, b in pairs if a.stem != b.stem}),
        "joined": names,
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [*facts(result), *sample_lines(result["seconds"])]
    lines.append(f"indexing, once, which ours and the descriptors need: {result['indexing_seconds']:.3f} s")
    for name, found in result["found"].items():
        recall = ", ".join(f"{kind} {share:.3f}" for kind, share in found["recall"].items())
        lines.append(
            f"{name}: {recall}; {found['groups of several originals']} groups of several originals, the largest of"
            f" {found['the largest']}, {found['pairs of two originals']} pairs of two"
        )
        if len(found["joined"]) <= 60:
            lines += [f"  {' '.join(names)}" for names in found["joined"]]
    return "\n".join(lines)


def _timed(find: Callable[[], Pairs]) -> tuple[float, Pairs]:
    started = time.perf_counter()
    pairs = find()
    return time.perf_counter() - started, pairs


if __name__ == "__main__":
    main()
