"""What the index on Milvus costs, beside FAISS: milvus-lite in a file, and milvus-lite as a server on this machine.

Descriptors are made around 200 centres, a label for each centre's number of pictures; a search asks for a pool of 500.
For each index: how long it takes to be made of a filled catalogue, to be opened in the same process, to be searched
(one query at a time), to be searched within a label (FAISS: with the ids from the catalogue), to answer 200 queries at
once, to follow 100 new pictures, and its bytes on the disk a picture. All samples are in --json.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from support.machine import machine, versions, write

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture, Selection
from indexes.vectors.base import LabelledIndex, TunedIndex
from indexes.vectors.storage import set_storage
from retrieval.common.settings import POOL
from retrieval.store.maintenance.index_sync import open_index

PICTURES, QUERIES, NEW, CENTRES, CHANNELS = 20_000, 200, 100, 200, 1280
MODEL = "0123456789abcdef"
_BATCH = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used: descriptors are made")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"[default: {PICTURES}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.pictures)
    print(report(result))
    write(result, chosen.json)


def measure(pictures: int = PICTURES, queries: int = QUERIES) -> dict[str, Any]:
    """Return the machine, the set-up, and for each index every sample in seconds and its bytes per picture."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CENTRES, CHANNELS))

    def drawn(count: int) -> Vectors:
        vectors = centres[random.integers(0, CENTRES, count)] + 0.7 * random.normal(size=(count, CHANNELS))
        return vectors.astype(np.float32)

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary, _serving(Path(temporary, "server")) as address:
        catalogue = Catalogue(Path(temporary, "store"), create=True)
        for start in range(0, pictures, _BATCH):
            _record(catalogue, start, drawn(min(_BATCH, pictures - start)))
        query_vectors = drawn(queries)
        places = {"faiss": catalogue.folder, "milvus:./index.db": catalogue.folder / "index.db"}
        places[address] = Path(temporary, "server")
        for place, folder in places.items():
            set_storage(catalogue, MODEL, place)
            name = "milvus-lite as a server" if place == address else place
            found[name] = _measured(catalogue, query_vectors, lambda: drawn(NEW))
            files = folder.glob("*.faiss") if place == "faiss" else folder.rglob("*")
            found[name]["bytes"] = (
                sum(file.stat().st_size for file in files if file.is_file()) / catalogue.pictures.count()
            )
        catalogue.close()
    return {
        "machine": machine(),
        "setup": {
            "pictures": pictures,
            "channels": CHANNELS,
            "pool": POOL,
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            **versions("faiss-cpu", "pymilvus", "milvus-lite"),
        },
        "indexes": found,
    }


def report(result: dict[str, Any]) -> str:
    """Return the medians as text."""
    lines = [f"{result['setup']}"]
    for name, found in result["indexes"].items():
        seconds = {what: 1000 * median(taken) for what, taken in found["seconds"].items()}
        stages = ", ".join(f"{what} {taken:,.1f} ms" for what, taken in seconds.items())
        lines.append(f"{name} ({found['kind']}): {stages}, {found['bytes']:,.0f} bytes a picture")
    return "\n".join(lines)


def _measured(catalogue: Catalogue, queries: Vectors, new: Callable[[], Vectors]) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        answer = work()
        seconds.setdefault(what, []).append(time.perf_counter() - started)
        return answer

    timed("made", lambda: open_index(catalogue, MODEL, must_save=True)).close()
    index: TunedIndex = timed("opened", lambda: open_index(catalogue, MODEL))
    index.search(queries[:1], POOL)
    for number, query in enumerate(queries):
        timed("search", partial(index.search, query[None], POOL))
        timed("search in a label", partial(_labelled, catalogue, index, query, f"{number % CENTRES:03}"))
    timed(f"{len(queries)} at once", lambda: index.search(queries, POOL))
    kind = index.kind
    index.close()
    _record(catalogue, catalogue.pictures.count(), new())
    timed(f"{NEW} followed", lambda: open_index(catalogue, MODEL, must_save=True)).close()
    return {"kind": kind, "seconds": seconds}


def _labelled(catalogue: Catalogue, index: TunedIndex, query: Vectors, label: str) -> object:
    if isinstance(index, LabelledIndex):
        return index.search_label(query[None], POOL, label)
    return index.search(query[None], POOL, catalogue.pictures.select_ids(Selection(label)))


def _record(catalogue: Catalogue, start: int, vectors: Vectors) -> None:
    pictures = [
        NewPicture(b"/g/%03d/%07d" % (number % CENTRES, number), 1, 2, b"%d" % number, vector, 3, 4)
        for number, vector in enumerate(vectors, start)
    ]
    catalogue.scans.record(b"/g", MODEL, pictures)


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "milvus_lite", "server", *place], stdout=subprocess.DEVNULL)
    try:
        yield f"milvus://127.0.0.1:{port}/bench"
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
