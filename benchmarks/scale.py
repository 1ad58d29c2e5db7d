"""Search among a million pictures, and ten million: recall, time on one thread, memory a picture.

The descriptors are made with the statistics of real ones (descriptors.py says how). A million are recorded in a real
catalogue, from which the index is made and tuned as `retrieve index` does it; the queries are others, made likewise.
A process of its own on one thread then asks: the index, then the head, which rescores the pool from the catalogue:
the usual 500 candidates, and fewer, as of `--pool 64`; gradually, as the store is tuned, and in turn all at once. What
it finds is held against exact search: the pool of 500 by brute force, rescored by the same head. Beside it, in the same
run, on the same vectors and one thread: FAISS's IndexFlatL2, and hnswlib.

Of ten million (`--large`) the FAISS part alone is measured; the catalogue would take 50 GB of disk. Its recall is given
twice: of the ten that FAISS puts first, and of its pool, from which the head takes them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from support.descriptors import CHUNK, Maker, exact_pools, real_descriptors, statistics
from support.galleries import gallery
from support.machine import ENVIRONMENT, facts, machine, python, sample_lines, timed, versions, write
from support.query_index import ORIGIN
from support.query_store import held

from indexes.arrays import Ids, Vectors
from indexes.catalogue.catalogue import Catalogue
from indexes.catalogue.records import NewPicture
from indexes.vectors.faiss_file import save
from indexes.vectors.faiss_index import FaissIndex
from indexes.vectors.sizing import sample_size
from retrieval.common.settings import POOL, RECALL
from retrieval.model.bundle import Bundle, find_bundle
from retrieval.store.maintenance.index_sync import open_index
from retrieval.store.maintenance.tuning import save_tuning, tune
from retrieval.store.rescoring import rescore
from retrieval.store.similarity import StoreSimilarity

COUNT = 1_000_000
QUERIES = 200
TOP = 10
POOLS = (POOL, 64)
_FLAT_QUERIES = 20  # an exact search of a million takes a third of a second
_BATCH = 2000
_HNSW = {"M": 16, "ef_construction": 100}
_HNSW_EFS = (10, 40, 100, 200, 400)
_LARGE_PROBES = (16, 32, 64, 128, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="real pictures; else some are generated")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many descriptors [default: {COUNT}]")
    parser.add_argument("--queries", type=int, default=QUERIES, help=f"how many to ask [default: {QUERIES}]")
    parser.add_argument("--large", action="store_true", help="only the FAISS part, as for ten million")
    parser.add_argument("--no-hnswlib", action="store_true", help="leave out hnswlib, which takes longest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folders, chosen.count, chosen.queries, chosen.large, not chosen.no_hnswlib)
    print(report(result))
    write(result, chosen.json)


def measure(folders: list[Path], count: int, queries: int, large: bool, with_hnswlib: bool) -> dict[str, Any]:
    """Return the machine, the set-up, and each engine's recall, milliseconds and bytes per picture."""
    if folders:
        real = real_descriptors(folders)
    else:
        with gallery(None, 2000) as generated:
            real = real_descriptors([generated])
    maker = Maker.of(real)
    query_vectors = maker.made(queries, 10**9)
    result: dict[str, Any] = {
        "machine": machine(),
        "setup": {
            **versions("faiss-cpu", *["hnswlib"] * with_hnswlib),
            "pictures": count,
            "channels": real.shape[1],
            "queries": queries,
            "pools": list(POOLS),
            "real descriptors": len(real),
            "of pictures of": ", ".join(folder.name for folder in folders) or "generated",
        },
        "statistics": {"real": statistics(real), "made": statistics(maker.made(len(real), 10**9 + 1))},
    }
    said("exact search by brute force")
    pools = exact_pools(maker, count, query_vectors, POOL)
    if large:
        return result | {"large": _large(maker, count, query_vectors, pools)}
    with tempfile.TemporaryDirectory() as folder:
        result["ours"] = _ours(maker, count, query_vectors, pools, Path(folder))
    result["others"] = {"IndexFlatL2": _flat(maker, count, query_vectors, pools)}
    if with_hnswlib:
        result["others"] |= _hnsw(maker, count, query_vectors, pools)
    return result


def _ours(maker: Maker, count: int, queries: Vectors, pools: Ids, folder: Path) -> dict[str, Any]:
    """Measure a real store: recorded, indexed, tuned, then searched in its own process on one thread."""
    bundle = find_bundle("default")
    catalogue = Catalogue(folder, create=True)
    seconds = {"record": timed(lambda: _record(catalogue, bundle.fingerprint, maker, count))}
    started = time.perf_counter()
    index = open_index(catalogue, bundle.fingerprint, must_save=True)
    seconds["make the index"] = time.perf_counter() - started
    said("tuning")
    steps = tune(catalogue, index, bundle.head, bundle.fingerprint, RECALL)
    save_tuning(catalogue, steps[-1])
    best = [_best(catalogue, bundle, query, pool) for query, pool in zip(queries, pools, strict=True)]
    catalogue.close()
    np.save(folder / "queries.npy", queries)
    answer = _run_queries("query_store", folder, *map(str, POOLS))
    true = pools[:, :TOP].tolist()
    return {
        "kind": answer["kind"],
        "probes": answer["probes"],
        "step": answer["step"],
        "threads": answer["threads"],
        "once": seconds,
        "tuning": [vars(step) for step in steps],
        "pools": {
            figures["pool"]: {
                "recall after rescoring": shared(best, figures["best"]["gradually"]),
                "recall after rescoring all": shared(best, figures["best"]["all"]),
                "recall of rescoring gradually": shared(figures["best"]["all"], figures["best"]["gradually"]),
                "recall of the pool": shared(true, figures["pools"]),
                "recall without rescoring": shared(true, [pool[:TOP] for pool in figures["pools"]]),
                "seconds": figures["seconds"],
            }
            for figures in answer["figures"]
        },
        "bytes a picture": (answer["after"] - answer["before"]) / count,
        "file": sum(file.stat().st_size for file in folder.glob("*.faiss")) / count,
    }


def _record(catalogue: Catalogue, fingerprint: str, maker: Maker, count: int) -> None:
    """Record the descriptors as pictures named by their ids."""
    root = b"/made"
    for ids, vectors in maker.chunks(count):
        for start in range(0, len(ids), _BATCH):
            batch = [
                NewPicture(
                    path=b"%s/%09d.jpg" % (root, id_),
                    size=1,
                    mtime=1,
                    hash=int(id_).to_bytes(32, "big"),
                    vector=vector,
                    width=640,
                    height=480,
                )
                for id_, vector in zip(ids[start : start + _BATCH], vectors[start : start + _BATCH], strict=True)
            ]
            catalogue.scans.record(root, fingerprint, batch)
        said(f"recorded {ids[-1]:,}")


def _best(catalogue: Catalogue, bundle: Bundle, query: Vectors, pool: Ids) -> list[int]:
    """Return the ten best of an exact pool after rescoring."""
    best: list[int] = (
        rescore(catalogue, StoreSimilarity.of(bundle.head), bundle.fingerprint, query, pool).ids[:TOP].tolist()
    )
    return best


def _run_queries(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a script in its own process, on one thread, on the folder and its queries."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [*python(script), os.fspath(folder), os.fspath(folder / "queries.npy")]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True, env=ENVIRONMENT | single)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _flat(maker: Maker, count: int, queries: Vectors, pools: Ids) -> dict[str, Any]:
    index = faiss.IndexFlatL2(queries.shape[1])
    before = held()
    for _, vectors in maker.chunks(count):
        index.add(vectors)
    memory = held() - before
    some = queries[:_FLAT_QUERIES]
    seconds, found = _each(some, lambda query: index.search(query[None], TOP)[1][0] + 1)
    return {
        "seconds": seconds,
        "recall": shared(pools[: len(some), :TOP].tolist(), found),
        "bytes a picture": memory / count,
    }


def _hnsw(maker: Maker, count: int, queries: Vectors, pools: Ids) -> dict[str, Any]:
    import hnswlib

    index = hnswlib.Index("ip", queries.shape[1])
    before = held()
    index.init_index(count, **_HNSW, random_seed=0)
    started = time.perf_counter()
    for ids, vectors in maker.chunks(count):
        index.add_items(vectors, ids)
        said(f"hnswlib: added {ids[-1]:,} in {time.perf_counter() - started:.0f} s")
    built, memory = time.perf_counter() - started, held() - before
    results: dict[str, Any] = {}
    for ef in _HNSW_EFS:
        index.set_ef(ef)
        seconds, found = _each(queries, lambda query: index.knn_query(query[None], TOP, num_threads=1)[0][0])
        results[f"hnswlib {_HNSW} ef {ef}"] = {
            "seconds": seconds,
            "recall": shared(pools[:, :TOP].tolist(), found),
            "bytes a picture": memory / count,
            "once": {"add": built},
        }
    return results


def _large(maker: Maker, count: int, queries: Vectors, pools: Ids) -> dict[str, Any]:
    before = held()
    started = time.perf_counter()
    size = sample_size(count)
    sample = np.concatenate(
        [maker.made(min(CHUNK, size - start), 2 * 10**9 + start) for start in range(0, size, CHUNK)]
    )
    index = FaissIndex.train(sample, count)
    del sample
    seconds = {"learn": time.perf_counter() - started}
    for ids, vectors in maker.chunks(count):
        index.add(ids, vectors)
        said(f"added {ids[-1]:,} in {time.perf_counter() - started:.0f} s")
    seconds["add"] = time.perf_counter() - started - seconds["learn"]
    large: dict[str, Any] = {"kind": index.kind, "once": seconds, "held once made": held() - before}
    with tempfile.TemporaryDirectory() as folder:
        large["file"] = save(index, Path(folder), *ORIGIN).stat().st_size
        del index
        np.save(Path(folder) / "queries.npy", queries)
        answer = _run_queries("query_index", Path(folder), *map(str, _LARGE_PROBES))
    true = pools[:, :TOP].tolist()
    large["steps"] = {
        f"{step['probes']} of {answer['lists']} lists": {
            "seconds": step["seconds"],
            "recall": shared(true, [pool[:TOP] for pool in step["pools"]]),
            "recall of the pool": shared(true, step["pools"]),
        }
        for step in answer["steps"]
    }
    return large | {"held": answer["held"], "threads": answer["threads"]}


def _each(queries: Vectors, search: Callable[[Vectors], Ids]) -> tuple[list[float], list[list[int]]]:
    """Each query's seconds, on one thread, and what it found."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    seconds, found = [], []
    for query in queries:
        started = time.perf_counter()
        ids = search(query)
        seconds.append(time.perf_counter() - started)
        found.append(ids.tolist())
    faiss.omp_set_num_threads(threads)
    return seconds, found


def shared(expected: list[list[int]], found: list[list[int]]) -> float:
    """Return the share of the expected ids that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(expected, found, strict=True)]))


def said(words: str) -> None:
    """How far it is, on stderr."""
    print(words, file=sys.stderr, flush=True)


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = facts(result)
    for name, figures in result["statistics"].items():
        lines.append(f"{name}: " + ", ".join(f"{what} {value:.3f}" for what, value in figures.items()))
    if "large" in result:
        return "\n".join([*lines, *_large_lines(result["large"])])
    ours = result["ours"]
    lines += [
        f"ours: {ours['kind']}, looks into {ours['probes']} lists, {ours['threads']} thread, ten hits of"
        f" {ours['step'] or 'all'} candidates",
        *(f"{name}: {seconds:.0f} s once" for name, seconds in ours["once"].items()),
        f"bytes a picture: {ours['bytes a picture']:.0f} held, {ours['file']:.0f} in the file",
    ]
    for pool, figures in ours["pools"].items():
        lines += [f"pool of {pool}, {name}: {figures[name]:.4f}" for name in figures if name.startswith("recall")]
        lines += sample_lines(
            {f"pool of {pool}, {name}": taken for name, taken in figures["seconds"].items()}, "ms", 1000
        )
    for name, other in result["others"].items():
        lines.append(f"{name}: recall@10 {other['recall']:.4f}, {other['bytes a picture']:.0f} bytes a picture")
        lines += sample_lines({f"{name}, search": other["seconds"]}, "ms", 1000)
        ratio = median(other["seconds"]) / median(ours["pools"][POOL]["seconds"]["search"])
        lines.append(f"{name} takes {ratio:.2g} times as long as our search for a pool of {POOL}")
    return "\n".join(lines)


def _large_lines(large: dict[str, Any]) -> list[str]:
    lines = [
        f"{large['kind']}: {large['held once made'] / 1e9:.2f} GB held once made, {large['file'] / 1e9:.2f} GB in the"
        f" file, {large['held'] / 1e9:.2f} GB held after all searches, {large['threads']} thread",
        *(f"{name}: {seconds:.0f} s once" for name, seconds in large["once"].items()),
    ]
    for name, step in large["steps"].items():
        lines.append(f"{name}: recall@10 {step['recall']:.4f}, of the pool {step['recall of the pool']:.4f}")
        lines += sample_lines({name: step["seconds"]}, "ms", 1000)
    return lines


if __name__ == "__main__":
    main()
