"""`query_store.py STORE QUERIES.npy POOL...`: search a store with descriptors (Q, C), in a process of its own.

It prints JSON: for each size of the pool each query's seconds in the index, in the head's rescoring and in both, the
pool and the ten best hits, rescored gradually as the store is tuned and, in turn, all at once; and what memory the
process held before and after the index was opened and searched. Started with one thread, it runs on one.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from indexes.arrays import Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.vectors.base import NO_ID, VectorIndex
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.maintenance.tuning import read_tuning
from retrieval.store.rescoring import rescored_hits
from retrieval.store.similarity import StoreSimilarity

TOP = 10


def main() -> None:
    store, file, *pools = sys.argv[1:]
    queries = np.load(file)
    catalogue, bundle = Catalogue(Path(store)), find_bundle("default")
    bundle.head.embed(queries[:1])  # read from its file
    before = held()
    index = open_index(catalogue, bundle.fingerprint)
    tuning = read_tuning(catalogue)
    step = tuning.step if tuning else None
    figures = [_query_pool(catalogue, index, bundle, queries, int(pool), step) for pool in pools]
    about = {"kind": index.kind, "probes": index.probes, "step": step, "threads": faiss.omp_get_max_threads()}
    print(json.dumps({**about, "before": before, "after": held(), "figures": figures}))


def _query_pool(
    catalogue: Catalogue, index: VectorIndex, bundle: Bundle, queries: Vectors, pool: int, step: int | None
) -> dict[str, Any]:
    steps = {"gradually": step, "all": None}
    seconds: dict[str, list[float]] = {"search": [], **{f"rescore {how}": [] for how in steps}}
    pools, best = list[list[int]](), {how: list[list[int]]() for how in steps}
    for number, query in enumerate(queries):
        started = time.perf_counter()
        ids = index.search(query[None], pool)[1][0]
        seconds["search"].append(time.perf_counter() - started)
        pools.append(ids.tolist())
        for how in sorted(steps, reverse=number % 2 == 1):
            started = time.perf_counter()
            hits = rescored_hits(
                catalogue,
                StoreSimilarity.of(bundle.head),
                bundle.fingerprint,
                query,
                ids[ids != NO_ID],
                steps[how],
            )
            best[how].append([int(hit.path.stem) for hit in islice(hits, TOP)])
            seconds[f"rescore {how}"].append(time.perf_counter() - started)
    for how in steps:
        pairs = zip(seconds["search"], seconds[f"rescore {how}"], strict=True)
        seconds[f"search and rescore {how}"] = [sum(pair) for pair in pairs]
    return {"pool": pool, "seconds": seconds, "pools": pools, "best": best}


def held() -> int:
    """Return the memory of this process in bytes, mapped files included (Linux)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
