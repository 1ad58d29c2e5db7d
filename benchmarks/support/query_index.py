"""`query_index.py FOLDER QUERIES.npy PROBES…`: search an index file alone, on the threads that the environment says.

It prints JSON: for each number of lists looked into, each query's seconds and pool; and what memory the process held
before it mapped the file and at the end, with all that it read of it.
"""

import json
import sys
import time
from pathlib import Path

import faiss
import numpy as np

from indexes.vectors.faiss_file import load
from retrieval.common.settings import POOL
from support.query_store import held

ORIGIN = ("large", "1")


def main() -> None:
    folder, file, *probes = sys.argv[1:]
    queries = np.load(file)
    before = held()
    index = load(Path(folder), *ORIGIN)
    assert index is not None
    steps = []
    for lists in probes:
        index.probes = int(lists)
        seconds, pools = [], []
        for query in queries:
            started = time.perf_counter()
            pools.append(index.search(query[None], POOL)[1][0].tolist())
            seconds.append(time.perf_counter() - started)
        steps.append({"probes": index.probes, "seconds": seconds, "pools": pools})
    values = {"lists": index.lists, "threads": faiss.omp_get_max_threads(), "steps": steps}
    print(json.dumps(values | {"held": held() - before}))


if __name__ == "__main__":
    main()
