"""The benchmarks run and tell every sample."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.command import PROJECT, environment
from tests.support.generated import blocks
from tests.support.milvus import need_milvus

pytestmark = pytest.mark.torch  # which most of them compare with
takes_long = pytest.mark.skipif("RETRIEVE_BENCHMARKS" not in os.environ, reason="takes long: set RETRIEVE_BENCHMARKS=1")


_FEW_REGIONS = "from tests.support.hiding import hide_few_regions as few; few().__enter__()"


def measured(script: str, call: str, before: str = "pass") -> Any:
    """Return the result of a benchmark's function as JSON; its report is made too."""
    code = f"import json, {script} as it; {before}; found = it.{call}; it.report(found); print(json.dumps(found))"
    environs = environment({"PYTHONPATH": str(PROJECT)})
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT / "benchmarks", capture_output=True, check=True, env=environs)
    return json.loads(done.stdout)


def test_the_start_is_measured_beside_torch() -> None:
    result = measured("startup", "measure(1)")
    (ours,), (torchs,) = result["seconds"].values()
    assert result["ratio"] == ours / torchs
    assert {"machine", "setup", "medians"} < result.keys()


@takes_long
def test_an_epoch_is_measured_beside_the_papers(tmp_path: Path) -> None:
    script, written = str(PROJECT / "benchmarks" / "training.py"), str(tmp_path / "result.json")
    command = [sys.executable, script, "--pictures", "6", "--rounds", "1", "--json", written]
    done = subprocess.run(command, capture_output=True, check=True, env=environment({"PYTHONPATH": str(PROJECT)}))
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    (ours,), (papers,) = result["seconds"].values()
    assert result["ratio"] == papers / ours
    assert result["setup"]["pictures"] == 6
    assert f"an epoch of the paper's takes {result['ratio']:.2f} times as long" in done.stdout.decode()


def test_indexing_is_measured_beside_a_plain_loop_and_its_limit() -> None:
    kinds = "kinds=[it.AS_IT_IS, it.NOISY]"  # each takes three processes
    result = measured("indexing", f"measure(None, generated=3, count=1, rounds=1, warm_up=False, {kinds})")
    assert {"machine", "setup", "galleries"} == result.keys()
    for name, count in (("as it is", 3), ("12 megapixels with noise", 1)):
        found = result["galleries"][name]
        ours, plain = (taken for (taken,) in found["seconds"].values())
        parts = {part: taken for part, (taken,) in found["limit_seconds_a_picture"].items()}
        most = 1 / (parts["decode"] / result["machine"]["cores"] + parts["network"])
        assert found["pictures"] == found["embedded"] == count  # the plain loop's too, or it would have failed
        assert found["ratio"] == plain / ours
        assert found["limit_pictures_a_second"] == most
        assert found["share_of_limit"] == count / ours / most


def test_peak_memory_is_measured_of_pictures_that_are_all_embedded(tmp_path: Path) -> None:
    script, written = str(PROJECT / "benchmarks" / "indexing.py"), tmp_path / "result.json"
    options = ["--memory", "--pictures", "2", "--sizes", "3", "6", "--json", str(written)]
    command = [sys.executable, script, *options]
    done = subprocess.run(command, capture_output=True, check=True, env=environment({"PYTHONPATH": str(PROJECT)}))
    result = json.loads(written.read_text("utf-8"))
    assert {size: found["embedded"] for size, found in result["galleries"].items()} == {"3": 3, "6": 6}
    few, many = (found["peak"] for found in result["galleries"].values())
    assert result["ratio"] == many / few
    assert f"the last one's peak is {result['ratio']:.3f} times the first one's" in done.stdout.decode()


@takes_long
def test_a_query_is_measured_beside_a_plain_script() -> None:
    result = measured("query", "measure(None, generated=8, rounds=1, warm_ups=0)")
    explained, bare, torchs, plain = (taken for (taken,) in result["seconds"].values())
    ours, theirs = result["setup"]["overlays"].values()
    assert (20 < ours <= 40, theirs) == (True, 20)  # ours has Grad-CAM's too, and no map of a picture without regions
    assert result["ratio_to_plain"] == explained / plain
    assert result["ratio_to_import"] == bare / torchs
    assert len(result["import_seconds"]) == 10
    assert "numpy" in result["import_seconds"]
    assert "torch" not in result["import_seconds"]


def test_heatmaps_are_measured_beside_the_package_and_equal_to_its_own() -> None:
    result = measured("heatmaps", "measure(None, count=3, rounds=1, warm_ups=0)")
    (ours,), (found_out,), *packages = result["seconds"].values()
    assert list(result["ratios"].values()) == [taken / ours for (taken,) in packages]
    assert len(packages) == 2
    assert found_out > ours
    assert 250 < result["passes"] < 350  # of three pictures
    assert result["setup"]["heatmaps"] == 8  # the first picture and two hits
    assert result["largest_difference"] < 1e-4


def test_the_catalogue_is_measured_at_every_size() -> None:
    result = measured("catalogue", "measure(None, files=20, rows=[30, 60], rounds=1)")
    assert result["setup"]["files"] == 20
    scan, *readings = (taken for (taken,) in result["seconds"].values())
    assert list(result["ratios"].values()) == [taken / scan for taken in readings]
    assert len(readings) == 3
    for rows in ("30", "60"):
        samples = result["questions"][rows]["seconds"]
        assert {len(taken) for taken in samples.values()} == {result["setup"]["calls"]}
        assert result["questions"][rows]["medians"] == {name: median(taken) for name, taken in samples.items()}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures for the statistics of their descriptors."""
    folder = tmp_path_factory.mktemp("generated")
    for seed in range(320):
        Image.fromarray(blocks(seed, 40, 40)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def generated_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of twelve pictures."""
    folder = tmp_path_factory.mktemp("classes")
    for seed in range(48):
        tint = np.array([(90, 0, 0), (0, 90, 0), (0, 0, 90), (60, 60, 0)][seed % 4])
        picture = np.clip(blocks(seed, 64, 64) * 0.6 + tint, 0, 255).astype(np.uint8)
        (folder / str(seed % 4)).mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / str(seed % 4) / f"{seed}.png")
    return folder


def test_search_among_many_is_measured_against_exact_search(generated: Path) -> None:
    result = measured("scale", f"measure([it.Path({str(generated)!r})], 600, 3, large=False, with_hnswlib=False)")
    assert result["setup"]["real descriptors"] == 320
    ours, flat = result["ours"], result["others"]["IndexFlatL2"]
    assert list(ours["pools"]) == ["500", "64"]
    for figures in ours["pools"].values():
        assert [len(taken) for taken in figures["seconds"].values()] == [3] * 5
        assert figures["recall of the pool"] == 1  # of so few the index is exact
    assert ours["pools"]["500"]["recall after rescoring"] == ours["pools"]["500"]["recall after rescoring all"] == 1
    assert (flat["recall"], len(flat["seconds"])) == (1, 3)


def test_an_index_of_codes_is_measured_by_itself(generated: Path) -> None:
    result = measured("scale", f"measure([it.Path({str(generated)!r})], 600, 3, large=True, with_hnswlib=False)")
    large = result["large"]
    assert large["kind"] == "RR1280,IVF49,RaBitQ4"
    assert list(large["steps"]) == [f"{probes} of 49 lists" for probes in (16, 32, 49)]
    *_, last = large["steps"].values()
    assert last["recall of the pool"] == 1  # 500 of 600
    assert [len(step["seconds"]) for step in large["steps"].values()] == [3, 3, 3]


@takes_long
def test_verification_is_measured_beside_a_plain_answer() -> None:
    result = measured("verification", "measure(None, count=8, rounds=1)", _FEW_REGIONS)
    assert [len(samples) for samples in result["seconds"].values()] == [1, 1, 1, 1]
    middle = result["medians"]
    assert result["added_by_verification"] == middle["explained and verified"] - middle["explained"]


def test_similarity_is_measured_before_and_after_the_statistics_of_the_gallery(generated_classes: Path) -> None:
    folder = f"it.Path({str(generated_classes)!r})"
    result = measured("similarity", f"measure([{folder}], [{folder}], questions=12)")
    (found,) = result["galleries"].values()
    assert (found["pictures"], found["classes"], found["questions"]) == (36, 4, 12)
    before, after, calibrated = found["figures"].values()
    assert result["means"] == found["figures"]
    assert before["pair_error"] > after["pair_error"] > calibrated["pair_error"]
    assert before["hit_error"] != after["hit_error"]
    assert sum(each["count"] for each in found["reliability"]["after"]["hits"]) == 12 * 5
    for side in result["foreign"]:
        assert side["questions"] == {"own": 12, generated_classes.name: 12}
        for shares in side["foreign"].values():
            assert shares["own"]["0.02"] <= shares["own"]["0.3"]


def test_duplicates_are_measured_by_kind() -> None:
    result = measured("duplicates", "measure(None, count=30, copied=6, rounds=1, with_imagededup=False)")
    assert (result["setup"]["originals"], result["setup"]["copied"], result["setup"]["files"]) == (30, 6, 66)
    assert {len(samples) for samples in result["seconds"].values()} == {1}
    ours, descriptors = result["found"].values()
    assert ours["recall"].keys() == descriptors["recall"].keys()
    assert ours["recall"]["renamed"] == descriptors["recall"]["renamed"] == 1
    assert ours["recall"]["recompressed at 40"] == 1
    assert ours["groups of several originals"] == len(ours["joined"]) == 0


@takes_long
def test_the_page_is_measured_from_the_drop_on() -> None:
    result = measured("serving", "measure(None, count=14, runs=2, warm_ups=1)", "it.TOP = 2")
    names = {"API: hits", "API: first glance", "API: all heatmaps"}
    if shutil.which("chromium"):
        names |= {"page: hits", "page: pictures", "page: first glance", "page: all heatmaps"}
    assert result["seconds"].keys() == result["percentiles"].keys() == names
    for name, taken in result["seconds"].items():
        assert len(taken) == 2
        assert result["percentiles"][name]["p50"] == min(taken)
        assert result["percentiles"][name]["p100"] == max(taken)
    assert all(hits < all_ for hits, all_ in zip(*list(result["seconds"].values())[:2], strict=True))


def test_many_clients_are_held_against_one(tmp_path: Path) -> None:
    for seed in range(8):
        Image.fromarray(blocks(seed)).save(tmp_path / f"{seed}.png")
    result = measured("clients", f"measure(it.Path({str(tmp_path)!r}), clients=4, seconds=1, beside=12)", "it.TOP = 2")
    assert set(result["statuses"]) <= {"200", "503"}
    assert result["statuses"]["200"] > 0
    assert (result["broken lines"], result["answers that differ"]) == (0, 0)
    assert (result["indexed beside"], result["last error of indexing"]) == (12, None)
    assert len(result["memory"]) >= 1


def test_milvus_is_measured_beside_faiss() -> None:
    need_milvus()
    result = measured("milvus", "measure(pictures=60, queries=3)")
    assert [found["kind"] for found in result["indexes"].values()] == ["IDMap,Flat", "Milvus FLAT", "Milvus FLAT"]
    for found in result["indexes"].values():
        assert [len(found["seconds"][what]) for what in ("made", "search", "search in a label")] == [1, 3, 3]
        assert found["bytes"] > 4 * 1280


@takes_long
def test_ray_is_measured_beside_the_plain_pipeline() -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
    result = measured("ray_overhead", "measure(None, generated=3, rounds=1)")
    plain, *on_ray = (taken for (taken,) in result["seconds"].values())
    assert list(result["ratios"].values()) == [taken / plain for taken in on_ray]
    assert list(result["setup"]["embedded"].values()) == [[3], [3], [3]]
    assert result["connecting_seconds"].keys() == result["ratios"].keys()
