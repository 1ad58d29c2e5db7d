"""The catalogue at scale: the scan of an unchanged gallery beside reading its files, and questions to a million rows.

The scan is the one that `retrieve index` runs: walk, compare with the catalogue, settle. Beside it, in turn, each file
is opened, read whole and closed: from the disk, as of a gallery that was indexed another day, and once more from
memory, the fastest that reading can be; and it is hashed from memory, as an index must that does not trust size and
time. Then catalogues of different sizes, of random descriptors, answer what `retrieve status` needs, and for the
candidates of a query, and are given batches as indexing writes them. Everything lies in a temporary folder; a million
rows take about 5 GB. With --address, catalogues of the same sizes on PostgreSQL answer the same, in schemas that are
dropped afterwards.

The seconds are this machine's of the day; the ratio, and that the times of the sizes are alike, are what compares.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from support.galleries import pictures
from support.machine import facts, in_turn, machine, medians, sample_lines, timed, versions, write

from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.database.database_url import parse_url
from indexes.catalogue.database.postgres import PostgresDatabase
from indexes.catalogue.records import NewPicture
from retrieval.model.head import Array
from retrieval.model.inference import Features
from retrieval.model.preprocessing import Pixels
from retrieval.sources.entries import PictureFile
from retrieval.sources.files import content_hash, open_file
from retrieval.sources.local import walk
from retrieval.store.indexing.pipeline import BATCH_SIZE, LocalPipeline
from retrieval.store.indexing.run import index_galleries

FILES = 100_000
ROWS = (10_000, 100_000, 1_000_000)
ROUNDS = 5
CALLS = 20
POOL = 500  # candidates of a query
_HITS = 16  # of them, shown
CHANNELS = 1280
FINGERPRINT = "f" * 64
SCAN = "scan of the unchanged gallery"
FROM_DISK, FROM_MEMORY = "reading every file from the disk", "reading every file from memory"
HASHING = "hashing every file from memory"
STATUS, FETCH = "status", f"fetch of {POOL} candidates"
SETTLE = f"recording of {BATCH_SIZE} new pictures"
_FOLDER = 500  # files of a folder
_LABELS = 20  # of a catalogue
_BATCH = 5000  # rows of a transaction
_SOURCES = 200  # different pictures of a gallery, each copied many times
_SIDE, _QUALITY = 200, 78  # of noise: JPEGs of about 26 kB


class _NoNetwork:
    """A network that must not be used: nothing has changed."""

    device = "none"

    def describe(self, pixels: Sequence[Pixels]) -> Array:
        raise AssertionError("an unchanged picture was embedded")

    def activate(self, pixels: Sequence[Pixels]) -> Features:
        raise AssertionError("an unchanged picture was embedded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gallery", nargs="?", type=Path, help="a folder of pictures to copy; else they are generated")
    parser.add_argument("--files", type=int, default=FILES, help=f"of the gallery [default: {FILES}]")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="of each catalogue")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of scan and reading [default: {ROUNDS}]")
    parser.add_argument("--address", help="of a PostgreSQL database to measure beside, postgresql://user@host/database")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.gallery, chosen.files, chosen.rows, chosen.rounds, chosen.address)
    print(report(result))
    write(result, chosen.json)


def measure(
    source: Path | None, files: int, rows: list[int] | tuple[int, ...], rounds: int, address: str | None = None
) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, the medians, and the ratio of reading to the scan."""
    with tempfile.TemporaryDirectory() as folder:
        scans, size = _scans(Path(folder), source, files, rounds)
    middle = medians(scans)
    return {
        "machine": machine(),
        "setup": {
            **versions("sqlalchemy"),
            "pictures of": source.name if source else "generated",
            "files": files,
            "bytes a file": size,
            "files a folder": _FOLDER,
            "rounds": rounds,
            "order": "in turn",
            "rows": list(rows),
            "descriptors": f"{CHANNELS} random numbers",
            "calls": CALLS,
        },
        "seconds": scans,
        "medians": middle,
        "ratios": {name: middle[name] / middle[SCAN] for name in (FROM_DISK, FROM_MEMORY, HASHING)},
        "questions": {str(count): _questions(count) for count in rows},
        "postgresql": {str(count): _postgres_figures(count, address) for count in rows} if address else {},
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [*facts(result), *sample_lines(result["seconds"])]
    lines += [f"{name} takes {ratio:.2f} times as long as the scan" for name, ratio in result["ratios"].items()]
    for place, questions in (("SQLite", result["questions"]), ("PostgreSQL", result["postgresql"])):
        for rows, figures in questions.items():
            lines.append(f"{place}, {int(rows):,} rows: recorded in {figures['record'] / int(rows) * 1e6:.1f} µs each")
            lines += sample_lines(figures["seconds"], "ms", 1000)
    return "\n".join(lines)


def _scans(work: Path, source: Path | None, files: int, rounds: int) -> tuple[dict[str, list[float]], int]:
    """Seconds of each scan and each reading, and the mean size of a file."""
    gallery = work / "gallery"
    _copy(_sources(work / "sources", source), gallery, files)
    folder = os.fsencode(os.path.realpath(gallery))
    found = [entry for entry in walk(folder) if isinstance(entry, PictureFile)]
    catalogue = Catalogue(work / "store", create=True)
    vector = np.ones(CHANNELS, np.float32)
    for start in range(0, len(found), _BATCH):
        some = [
            NewPicture(*entry[:3], hash=os.urandom(16), vector=vector, width=1, height=1)
            for entry in found[start : start + _BATCH]
        ]
        catalogue.scans.record(folder, FINGERPRINT, some)

    def scan() -> None:
        report = index_galleries(
            catalogue, LocalPipeline(catalogue, _NoNetwork(), FINGERPRINT, 224), FINGERPRINT, [folder]
        )
        assert report.unchanged == files, report

    def read() -> None:
        for entry in found:
            with open(entry.path, "rb") as file:
                file.read()

    def forget() -> None:
        for entry in found:
            with open(entry.path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def hash_all() -> None:
        for entry in found:
            with open_file(os.fsdecode(entry.path)) as file:
                content_hash(file)

    def read_from_disk() -> float:
        forget()
        return timed(read)

    runs: dict[str, Callable[[], float]] = {
        SCAN: lambda: timed(scan),
        FROM_DISK: read_from_disk,  # which leaves them all in memory
        FROM_MEMORY: lambda: timed(read),
        HASHING: lambda: timed(hash_all),
    }
    samples = in_turn(runs, rounds)
    catalogue.close()
    return samples, round(sum(entry.size for entry in found) / len(found))


def _postgres_figures(rows: int, address: str) -> dict[str, Any]:
    """Measure the same in a PostgreSQL schema, which is dropped afterwards."""
    place = parse_url(f"{address}{'&' if '?' in address else '?'}schema=benchmark_{os.urandom(4).hex()}")
    try:
        return _questions(rows, str(place))
    finally:
        database = PostgresDatabase(place)
        with database.write() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {place.schema} CASCADE")
        database.close()


def _questions(rows: int, address: str | None = None) -> dict[str, Any]:
    """Seconds of each call on a catalogue of so many rows, and of recording them."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue(Path(folder), create=True, address=address)
        random = np.random.default_rng(0)
        recorded = timed(lambda: _fill(catalogue, rows, random))
        runs: dict[str, Callable[[], float]] = {
            STATUS: lambda: timed(
                lambda: (catalogue.scans.root_counts(), catalogue.pictures.labels(), catalogue.scans.failures())
            ),
            FETCH: lambda: _fetch(catalogue, random.integers(1, rows + 1, POOL)),
        }
        in_turn(runs, 1)
        samples = in_turn(runs, CALLS)
        samples |= in_turn({SETTLE: lambda: _settle(catalogue, random)}, CALLS)
        catalogue.close()
    return {"record": recorded, "seconds": samples, "medians": {name: median(taken) for name, taken in samples.items()}}


def _fetch(catalogue: Catalogue, ids: Any) -> float:
    return timed(lambda: (list(catalogue.descriptors.of(ids, FINGERPRINT)), catalogue.pictures.candidates(ids[:_HITS])))


def _settle(catalogue: Catalogue, random: np.random.Generator) -> float:
    vectors = random.standard_normal((BATCH_SIZE, CHANNELS), np.float32)
    names = (b"/g/new/" + os.urandom(8).hex().encode() for _ in vectors)
    some = [NewPicture(name, 1, 1, name, vector, 1, 1) for name, vector in zip(names, vectors, strict=True)]
    return timed(lambda: catalogue.scans.record(b"/g", FINGERPRINT, some))


def _fill(catalogue: Catalogue, rows: int, random: np.random.Generator) -> None:
    for start in range(0, rows, _BATCH):
        vectors = random.standard_normal((min(_BATCH, rows - start), CHANNELS), np.float32)
        some = [
            NewPicture(b"/g/%02d/%07d.jpg" % (row % _LABELS, row), 1, 1, os.urandom(16), vector, 1, 1)
            for row, vector in enumerate(vectors, start)
        ]
        catalogue.scans.record(b"/g", FINGERPRINT, some)


def _sources(made: Path, folder: Path | None) -> list[Path]:
    """Return the pictures to copy: the folder's, or noise."""
    if folder is not None:
        return pictures(folder)
    made.mkdir()
    random = np.random.default_rng(0)
    for number in range(_SOURCES):
        noise = random.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
        Image.fromarray(noise).save(made / f"{number}.jpg", quality=_QUALITY)
    return pictures(made)


def _copy(sources: list[Path], gallery: Path, files: int) -> None:
    for number in range(files):
        folder = gallery / f"{number // _FOLDER:05d}"
        if number % _FOLDER == 0:
            folder.mkdir(parents=True)
        source = sources[number % len(sources)]
        shutil.copyfile(source, folder / f"{number:07d}{source.suffix}")


if __name__ == "__main__":
    main()
