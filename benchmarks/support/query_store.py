"""`query_store.py STORE QUERIES.npy POOL...`: search a store with descriptors (Q, C), in a process of its own.

It prints JSON: for each size of the pool each query's seconds in the index, in the head's rescoring and in both, the
pool and the ten best hits; and what memory the process held before and after the index was opened and searched. Started
with one thread, it runs on one.
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
from retrieval.store.rescoring import rescore

TOP = 10


def main() -> None:
    store, file, *pools = sys.argv[1:]
    queries = np.load(file)
    catalogue, bundle = Catalogue(Path(store)), find_bundle("default")
    bundle.head.embed(queries[:1])  # read from its file
    before = held()
    index = open_index(catalogue, bundle.fingerprint)
    figures = [_query_pool(catalogue, index, bundle, queries, int(pool)) for pool in pools]
    about = {"kind": index.kind, "probes": index.probes, "threads": faiss.omp_get_max_threads()}
    print(json.dumps({**about, "before": before, "after": held(), "figures": figures}))


def _query_pool(
    catalogue: Catalogue, index: VectorIndex, bundle: Bundle, queries: Vectors, pool: int
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"search": [], "rescore": [], "both": []}
    pools, best = [], []
    for query in queries:
        started = time.perf_counter()
        ids = index.search(query[None], pool)[1][0]
        searched = time.perf_counter()
        ranking = rescore(catalogue, bundle.head, bundle.fingerprint, query, ids[ids != NO_ID])
        hits = list(islice(ranking.hits(catalogue), TOP))
        done = time.perf_counter()
        for name, taken in (("search", searched - started), ("rescore", done - searched), ("both", done - started)):
            seconds[name].append(taken)
        pools.append(ids.tolist())
        best.append([int(hit.path.stem) for hit in hits])
    return {"pool": pool, "seconds": seconds, "pools": pools, "best": best}


def held() -> int:
    """Return the memory of this process in bytes, mapped files included (Linux)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
