"""How soon the page shows hits and heatmaps after a picture is dropped, in Debian's chromium on this same machine.

The server is a process of its own with a folder indexed, the browser another; both share the cores. Pictures of the
folder are dropped one after the other, each a file that the server has not seen before (one byte is added, behind its
end). "hits" is when the cards of all hits have been painted, "pictures" when each picture in view is there too, "first
glance" when the last hit has heatmaps, "all heatmaps" when the last ones have settled. The API is timed beside it,
without a browser.
"""

import argparse
import base64
import http.client
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from support.galleries import gallery, pictures
from support.machine import facts, machine, versions, write
from support.served import served_store

TOP = 12  # hits of a query
RUNS = 200
WARM_UPS = 20
PERCENTILES = (50, 90, 95, 99, 100)

_DROP = """async (bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], "dropped.jpg"));
  const main = document.getElementById("main");
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const until = async (holds) => { while (!holds()) await painted(); };
  const inView = (image) => {
    const box = image.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight;
  };
  main.replaceChildren();
  const started = performance.now();
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  const since = () => (performance.now() - started) / 1000;
  await until(() => main.querySelector("article"));
  await painted();
  const hits = since();
  let seen = null;
  const shown = () => [...main.querySelectorAll("article .frame img")].filter(inView);
  const images = until(() => shown().every((image) => image.complete));
  images.then(() => { seen = since(); });
  await until(() => ["glance", "true"].includes(main.dataset.explained));
  await painted();
  const glance = since();
  await until(() => main.dataset.explained === "true");
  await painted();
  const heatmaps = since();
  await images;
  return { hits, pictures: seen, "first glance": glance, "all heatmaps": heatmaps };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--pictures", type=int, default=RUNS, help=f"to generate [default: {RUNS}]")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"pictures dropped [default: {RUNS}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folder, chosen.pictures, chosen.runs)
    print(report(result))
    write(result, chosen.json)


def measure(folder: Path | None, count: int = RUNS, runs: int = RUNS, warm_ups: int = WARM_UPS) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, and percentiles."""
    with gallery(folder, count) as place, served_store(place) as address:
        files = pictures(place)
        contents = [
            files[number % len(files)].read_bytes() + bytes([number % 256]) for number in range(runs + warm_ups)
        ]
        samples = {f"API: {name}": taken for name, taken in _by_api(address, contents)[0].items()}
        samples = {name: taken[warm_ups:] for name, taken in samples.items()}
        chromium = shutil.which("chromium")
        if chromium:
            shown = _by_page(address, chromium, [each + b"\n" for each in contents])
            samples |= {f"page: {name}": taken[warm_ups:] for name, taken in shown.items()}
    return {
        "machine": machine(),
        "setup": {
            **versions("openvino", "fastapi", "uvicorn", "playwright"),
            "browser": "chromium" if chromium else "none found: the page was left out",
            "pictures of": folder.name if folder else "generated",
            "hits": 12,
            "runs": runs,
            "warm_ups": warm_ups,
        },
        "seconds": samples,
        "percentiles": {name: percentiles(taken) for name, taken in samples.items()},
    }


def percentiles(taken: list[float]) -> dict[str, float]:
    """Of samples, each the least one that so many percent do not exceed."""
    ordered = sorted(taken)
    return {f"p{each}": ordered[max(0, -(-len(ordered) * each // 100) - 1)] for each in PERCENTILES}


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = facts(result)
    for name, taken in result["seconds"].items():
        summary = ", ".join(f"{each} {value * 1000:.0f}" for each, value in result["percentiles"][name].items())
        lines += [f"{name}: {summary} ms", "  of " + " ".join(f"{each * 1000:.0f}" for each in taken)]
    return "\n".join(lines)


def _by_api(address: str, contents: list[bytes]) -> tuple[dict[str, list[float]], list[Any]]:
    samples: dict[str, list[float]] = {"hits": [], "first glance": [], "all heatmaps": []}
    answers = []
    line = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=60)
    for content in contents:
        started = time.perf_counter()
        line.request("POST", f"/api/query?top={TOP}&correspond=true&collapse=true&stream=true", content)
        response = line.getresponse()
        first = response.readline()
        samples["hits"].append(time.perf_counter() - started)
        for _ in range(len(json.loads(first)["hits"])):
            response.readline()
        samples["first glance"].append(time.perf_counter() - started)
        response.read()
        samples["all heatmaps"].append(time.perf_counter() - started)
        answers.append(json.loads(first))
    line.close()
    return samples, answers


def _by_page(address: str, chromium: str, contents: list[bytes]) -> dict[str, list[float]]:
    from playwright.sync_api import sync_playwright

    samples: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.fspath(chromium), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.wait_for_selector(".grid img")
        page.wait_for_timeout(1000)
        for content in contents:
            found = page.evaluate(_DROP, base64.b64encode(content).decode())
            for name, seconds in found.items():
                samples.setdefault(name, []).append(seconds)
            page.wait_for_timeout(50)
        browser.close()
    return samples


if __name__ == "__main__":
    main()
