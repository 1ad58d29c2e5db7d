"""How long a warm query takes with its five hits explained, and how much more to check or to match them.

One process, one store, the same query pictures in turn with each kind of answer. A check changes 72 pictures a hit
and 100 a picture, 960 for five hits. The seconds are this machine's of the day.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.galleries import gallery, pictures
from support.machine import facts, in_turn, machine, medians, sample_lines, timed, versions, write

from retrieval.common.settings import ExplainOptions, MethodName
from retrieval.engine import Engine

PICTURES = 100
ROUNDS = 10
TOP = 5
PLAIN, GRADCAM = "explained", "explained by Grad-CAM"
VERIFIED, MATCHED = "explained and verified", "explained, with correspondences"
ANSWERS = {
    GRADCAM: ExplainOptions(MethodName.gradcam),
    PLAIN: ExplainOptions(),
    VERIFIED: ExplainOptions(verify=True),
    MATCHED: ExplainOptions(correspond=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; else they are generated")
    parser.add_argument("--pictures", type=int, default=PICTURES, help=f"to generate [default: {PICTURES}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"runs of each [default: {ROUNDS}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for machines")
    chosen = parser.parse_args()
    result = measure(chosen.folder, chosen.pictures, chosen.rounds)
    print(report(result))
    write(result, chosen.json)


def measure(folder: Path | None, count: int = PICTURES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return the machine, the set-up, every sample in seconds, the medians, and the cost of verification."""
    with gallery(folder, count) as place, tempfile.TemporaryDirectory() as store:
        engine = Engine.create(store, device="cpu")
        engine.index(place)
        sources = pictures(place)[:rounds]
        turns = {name: iter(sources) for name in ANSWERS}

        def run(name: str) -> Callable[[], float]:
            return lambda: timed(lambda: engine.query(next(turns[name]), TOP + 1, options=ANSWERS[name]))

        for how in ANSWERS.values():
            engine.query(sources[0], TOP + 1, options=how)
        samples = in_turn({name: run(name) for name in ANSWERS}, len(sources))
        engine.close()
    middle = medians(samples)
    return {
        "machine": machine(),
        "setup": {
            **versions("openvino", "numpy"),
            "pictures of": folder.name if folder else "generated",
            "hits": f"{TOP}, and the picture itself, which has nothing to explain",
            "rounds": len(sources),
            "warm_ups": 1,
            "order": "in turn",
        },
        "seconds": samples,
        "medians": middle,
        "added_by_verification": middle[VERIFIED] - middle[PLAIN],
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as text."""
    added = f"verification adds {result['added_by_verification']:.3f} s to a query with {TOP} hits"
    return "\n".join([*facts(result), *sample_lines(result["seconds"], "ms", 1000), added])


if __name__ == "__main__":
    main()
