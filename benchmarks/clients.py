"""Many clients at once for a minute: whether each gets the answer that one alone gets, and what memory does meanwhile.

Every client asks again and again with a picture of the folder, hits and heatmaps, over loopback, from this process.
Past its queue the server answers 503, and the client retries in time. Meanwhile the server brings its store up to
date with a second gallery. An answer must equal, but for its seconds, the one that a single client got before; only
heatmaps that are a first glance, as the server is busy, are counted and not compared.
"""

import argparse
import http.client
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from support.galleries import gallery, generate, pictures
from support.machine import facts, machine, versions, write
from support.served import index, server

CLIENTS, SECONDS = 64, 60
ASKED = 10  # different pictures: a single client waits for all heatmaps of each
BESIDE = 3000  # pictures indexed meanwhile
TOP = 12  # hits of a query
TOLERANCE = 0.003  # of heatmaps' values, which have three digits

Answer = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"at once [default: {CLIENTS}]")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"how long [default: {SECONDS}]")
    parser.add_argument("--beside", type=int, default=BESIDE, help=f"pictures indexed meanwhile [default: {BESIDE}]")
    parser.add_argument("--processes", type=int, default=1, help="that serve [default: 1]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folder, chosen.clients, chosen.seconds, chosen.beside, chosen.processes)
    print(report(result))
    write(result, chosen.json)


def measure(folder: Path | None, clients: int, seconds: float, beside: int, processes: int = 1) -> dict[str, Any]:
    """Return the machine, the set-up, statuses, differing answers, memory every second, and what was indexed."""
    with gallery(folder, 200) as place, tempfile.TemporaryDirectory() as work:
        store, other = Path(work) / "store", Path(work) / "other"
        other.mkdir()
        shutil.copy(pictures(place)[0], other / "first.jpg")
        index(store, place, other, "--plain-similarity")  # else what is indexed beside changes similarities
        with server(store, "--processes", str(processes)) as (address, process):
            load = _Load(address, place, [each.read_bytes() for each in pictures(place)[:ASKED]])
            load.expect()
            if beside:
                generate(other, beside)
                load.post("/api/index")
            load.run(clients, seconds, process)
            while (status := load.get("/api/status"))["indexing"] is not None:
                time.sleep(0.5)
    return {
        "machine": machine(),
        "setup": {
            **versions("openvino", "fastapi", "uvicorn"),
            "pictures of": folder.name if folder else "generated",
            "clients": clients,
            "seconds": seconds,
            "processes": processes,
        },
        "seconds of an answer, median and the slowest twentieth": load.waited(),
        "statuses": dict(load.statuses),
        "broken lines": load.broken,
        "answers that differ": load.differing,
        "largest difference of heatmaps": load.largest,
        "hits with a first glance only": f"{load.glances} of {load.explained}",
        "memory": load.memory,
        "indexed beside": sum(each["pictures"] for each in status["galleries"] if each["folder"] == str(other)) - 1,
        "of": beside,
        "last error of indexing": status["indexing_error"],
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    names = (
        "seconds of an answer, median and the slowest twentieth",
        "statuses",
        "broken lines",
        "answers that differ",
        "largest difference of heatmaps",
        "hits with a first glance only",
    )
    memory = " ".join(f"{each / 1e6:.0f}" for each in result["memory"])
    return "\n".join(
        [
            *facts(result),
            *(f"{name}: {result[name]}" for name in names),
            f"memory of the server, each second: {memory} MB",
            f"indexed beside: {result['indexed beside']} of {result['of']} ({result['last error of indexing']})",
        ]
    )


class _Load:
    def __init__(self, address: str, place: Path, queries: list[bytes]) -> None:
        self._line = address.removeprefix("http://").rstrip("/")
        self._path = f"/api/query?top={TOP}&folder={quote(str(place.resolve()))}"
        self._queries = queries
        self._expected: list[Answer] = []
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.broken = self.differing = self.glances = self.explained = 0
        self.largest = 0.0
        self.memory: list[int] = []
        self._seconds: list[float] = []

    def waited(self) -> list[float]:
        """How long answers took: the median, and what one of twenty exceeds."""
        return [round(sorted(self._seconds)[int(share * (len(self._seconds) - 1))], 3) for share in (0.5, 0.95)]

    def get(self, path: str) -> Answer:
        return self._request("GET", path)

    def post(self, path: str) -> Answer:
        return self._request("POST", path)

    def expect(self) -> None:
        """Record the answers that a single client gets."""
        self._expected = [self._request("POST", self._path, content) for content in self._queries]

    def run(self, clients: int, seconds: float, process: int) -> None:
        """All clients at once for so long; the process' memory is noted every second."""
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._ask, args=(number, until)) for number in range(clients)]
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            self.memory.append(_held(process))
            time.sleep(1)
        for thread in threads:
            thread.join()
        self.memory.append(_held(process))

    def _request(self, method: str, path: str, content: bytes = b"") -> Answer:
        line = http.client.HTTPConnection(self._line, timeout=120)
        line.request(method, path, content)
        answer: Answer = json.loads(line.getresponse().read())
        line.close()
        return answer

    def _ask(self, number: int, until: float) -> None:
        line = http.client.HTTPConnection(self._line, timeout=120)
        while time.monotonic() < until:
            place = number % len(self._queries)
            number += 1
            began = time.perf_counter()
            try:
                line.request("POST", self._path, self._queries[place])
                response = line.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException):
                self._note(None, None, None, 0.0)
                line.close()
                continue
            took = time.perf_counter() - began
            self._note(response.status, json.loads(body), self._expected[place], took)
            if response.status == http.client.SERVICE_UNAVAILABLE:
                time.sleep(float(response.headers["retry-after"]))
        line.close()

    def _note(self, status: int | None, answer: Answer | None, expected: Answer | None, took: float) -> None:
        difference = _difference(answer, expected) if status == http.client.OK and answer and expected else 0.0
        with self._lock:
            if status is None:
                self.broken += 1
                return
            self.statuses[status] += 1
            self._seconds += [took] if status == http.client.OK else []
            self.differing += difference is None or difference > TOLERANCE
            self.largest = max(self.largest, difference or 0.0)
            explanations = answer["explanations"] if answer and status == http.client.OK else []
            self.explained += len(explanations)
            self.glances += sum(each["glance"] is not None for each in explanations)


def _difference(answer: Answer, expected: Answer) -> float | None:
    """Return the largest difference of values of settled heatmaps; None if hits differ."""
    if answer["hits"] != expected["hits"]:
        return None
    pairs: list[tuple[float, float]] = []
    for own, other in zip(answer["explanations"], expected["explanations"], strict=True):
        if own["glance"] is None:
            pairs += zip(_values(own), _values(other), strict=True)
    return max((abs(a - b) for a, b in pairs), default=0.0)


def _values(explanation: Answer) -> list[float]:
    sides = [explanation[side][kind] for side in ("query", "hit") for kind in ("factual", "counterfactual")]
    return [value for rows in sides for row in rows for value in row]


def _held(process: int) -> int:
    """Return the memory of a process and its children in bytes; shared memory counts once."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text("utf-8").split()
    lines = [
        line
        for each in (process, *children)
        for line in Path(f"/proc/{each}/smaps_rollup").read_text("utf-8").splitlines()
    ]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
