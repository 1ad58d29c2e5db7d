"""Answers of the API: the engine's own hits, and one sentence for every error."""

import asyncio
import io
import os
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from indexes.catalogue.scans import ScanRecords
from retrieval.common.settings import ExplainOptions, MethodName
from retrieval.engine import Engine
from retrieval.explain.explanation import Explanation
from retrieval.server.config import ServerConfig
from retrieval.server.services import queries
from retrieval.server.services.queries import FIRST_GLANCE
from retrieval.store.maintenance.calibration import delete_calibration, save_calibration
from retrieval.store.maintenance.coverage import CoverageSample, coverage_setting
from retrieval.store.query import Queries
from tests.support.calibrations import a_calibration
from tests.support.generated import CLASSES, blocks
from tests.support.html_checker import Checker
from tests.support.served import client_of, lines_of
from tests.support.store import Indexed


@pytest.fixture(scope="module")
def client(indexed: Indexed) -> Iterator[TestClient]:
    with client_of(indexed.store) as client:
        yield client


@pytest.fixture(scope="module")
def engine(indexed: Indexed) -> Iterator[Engine]:
    engine = Engine.open(indexed.store)
    yield engine
    engine.close()


def sentence(answer: Any, status: int) -> str:
    """Return the error of an answer, which must be one sentence."""
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert isinstance(error, str)
    assert "\n" not in error
    assert "Traceback" not in error
    return error


def test_as_many_hits_as_are_needed(client: TestClient, engine: Engine, indexed: Indexed) -> None:
    picture = next(iter(by_name(client).values()))
    query = f"/api/query?explain=false&picture={picture['id']}"
    assert "does not know how many hits" in sentence(client.get(f"{query}&coverage=0.9"), 422)
    assert "leave out filters" in sentence(client.get(f"{query}&coverage=0.9&min_similarity=0.1"), 422)
    sample = CoverageSample(199, tuple(np.linspace(0.001, 0.2, 199)))
    calibration = replace(a_calibration(engine.bundle.head.digest), normalised=True, hit=(0.5, -1.0))
    try:
        save_calibration(engine.catalogue, calibration)
        engine.catalogue.settings.set(**coverage_setting(sample))
        found = client.get(f"{query}&coverage=0.9").json()
    finally:
        delete_calibration(engine.catalogue)
    wrong = np.cumprod([1 - hit["probability"] for hit in found["hits"]])
    assert len(wrong) > 1
    assert (wrong[:-1] >= sample.scores[19]).all()
    assert wrong[-1] < sample.scores[19] or len(wrong) == len(by_name(client)) - 1
    assert (found["coverage"]["coverage"], found["coverage"]["pictures"]) == (0.9, 199)


def by_name(client: TestClient, **filters: Any) -> dict[str, dict[str, Any]]:
    pictures = client.get("/api/pictures", params=filters).json()["pictures"]
    return {f"{each['label']}/{each['name']}": each for each in pictures}


# Search


@pytest.mark.slow
def test_an_upload_has_the_hits_and_heatmaps_of_the_engine(
    client: TestClient, engine: Engine, indexed: Indexed
) -> None:
    found = client.post("/api/query?top=3&correspond=true&verify=true", content=indexed.picture.read_bytes()).json()
    expected = engine.query(indexed.picture, top=3, options=ExplainOptions(verify=True, correspond=True))
    assert [hit["picture"]["id"] for hit in found["hits"]] == [hit.id for hit in expected]
    for answered, hit, explained in zip(found["hits"], expected, found["explanations"], strict=True):
        assert answered["similarity"] == hit.similarity
        assert (answered["rank"], answered["index_rank"], answered["verdict"]) == (
            hit.rank,
            hit.index_rank,
            hit.verdict,
        )
        assert answered["picture"]["label"] == hit.label
        assert hit.explanation is not None
        assert explained["rank"] == hit.rank
        assert explained["identical"] == hit.explanation.identical
        for side in ("query", "hit"):
            maps = getattr(hit.explanation, side)
            np.testing.assert_allclose(explained[side]["factual"], maps.factual, atol=2e-3)
            np.testing.assert_allclose(explained[side]["counterfactual"], maps.counterfactual, atol=2e-3)
        if not hit.explanation.identical:
            assert np.shape(explained["matches"]["table"]) == (49, 49)
            drawn = [side for side in ("query", "hit") if explained[side]["missing"] is None]
            assert len(explained["verification"]["rows"]) == 4 * len(drawn) > 0
    assert found["seconds"].keys() == {"hits", "total"}


def test_a_link_to_an_upload_answers_the_same(client: TestClient, indexed: Indexed) -> None:
    found = client.post("/api/query?explain=false", content=indexed.picture.read_bytes()).json()
    again = client.get("/api/query", params={"upload": found["query"]["upload"], "explain": False}).json()
    assert again["hits"] == found["hits"]
    assert again["explanations"] == []
    image = client.get("/" + found["query"]["image"])
    assert Image.open(io.BytesIO(image.content)).format == "JPEG"


def test_an_indexed_picture_is_no_hit_of_itself(client: TestClient, engine: Engine, indexed: Indexed) -> None:
    own = by_name(client)[f"{CLASSES[0]}/0.png"]
    found = client.get("/api/query", params={"picture": own["id"], "top": 4, "explain": False}).json()
    expected = engine.query(indexed.picture, top=5, explain=False)
    assert own["id"] == expected[0].id
    assert [hit["picture"]["id"] for hit in found["hits"]] == [hit.id for hit in expected[1:]]
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4]
    assert found["query"] == own


def test_a_stream_has_the_hits_first_then_each_explanation_then_the_end(client: TestClient, indexed: Indexed) -> None:
    path = "/api/query?top=6&method=local&stream=true"
    answer = client.post(path, content=indexed.picture.read_bytes())
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = lines_of(answer.text)
    assert [line["type"] for line in lines] == ["hits", *["explanation"] * 6, "end"]
    assert [line["rank"] for line in lines[1:-1]] == [1, 2, 3, 4, 5, 6]
    whole = client.post(path.replace("stream=true", ""), content=indexed.picture.read_bytes()).json()
    assert whole["explanations"] == lines[1:-1]
    assert whole["hits"] == lines[0]["hits"]


def test_a_stream_has_a_first_glance_at_each_hit_before_what_is_found_out(client: TestClient, indexed: Indexed) -> None:
    path = "/api/query?top=2&method=occlusion&correspond=true&stream=true"
    hits, *explanations, end = lines_of(client.post(path, content=indexed.picture.read_bytes()).text)
    quick, found_out = ("ensemble", FIRST_GLANCE), ("occlusion", None)
    assert [(each["rank"], each["method"], each["glance"]) for each in explanations] == [
        (rank, *how) for how in (quick, found_out) for rank in (1, 2)
    ]
    assert (hits["type"], end["type"]) == ("hits", "end")
    second = explanations[-1]
    assert np.shape(second["query"]["factual"]) == np.shape(second["hit"]["counterfactual"]) == (28, 28)
    params = {"upload": hits["query"]["upload"], "hit": hits["hits"][1]["picture"]["id"], "method": "gradcam"}
    by_gradcam = client.get("/api/explain", params=params).json()
    assert by_gradcam["gradcam"] is None
    for side in ("query", "hit"):
        assert second["gradcam"][side]["magnitude"] == pytest.approx(by_gradcam[side]["magnitude"], rel=1e-3)
        np.testing.assert_allclose(second["gradcam"][side]["factual"], by_gradcam[side]["factual"], atol=5e-3)
    whole = client.post(path.replace("stream=true", ""), content=indexed.picture.read_bytes()).json()
    assert whole["explanations"] == explanations[2:]


def test_the_first_glance_remains_if_the_server_is_busy(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_SLOW", 0)
    with client_of(indexed.store) as client:
        answer = client.post("/api/query?top=2&method=occlusion", content=indexed.picture.read_bytes())
    assert answer.status_code == 200
    assert [(each["rank"], each["method"], each["glance"]) for each in answer.json()["explanations"]] == [
        (rank, "ensemble", "first glance only: the server is busy") for rank in (1, 2)
    ]


@pytest.mark.parametrize("stream", ["true", "false"])
def test_nothing_is_found_out_for_a_client_that_has_gone(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """It goes while the first chunk of hits is being found out."""

    def explain(self: Any, query: Any, others: Any, distances: Any, options: ExplainOptions) -> list[Explanation]:
        made.append((options.method, len(others)))
        if options.method == "occlusion":
            gone.set()
            options = replace(options, method=MethodName.local)
        return real(self, query, others, distances, options)

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        while not gone.is_set():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    made: list[tuple[str, int]] = []
    gone, real = threading.Event(), Queries.explain_pixels
    messages = [{"type": "http.request", "body": indexed.picture.read_bytes(), "more_body": False}]
    monkeypatch.setattr(Queries, "explain_pixels", explain)
    with client_of(indexed.store) as client:
        assert client.portal is not None
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/query",
            "query_string": f"top=6&method=occlusion&stream={stream}".encode(),
            "headers": [(b"host", b"127.0.0.1:8000")],
        }
        client.portal.call(client.app, scope, receive, send)
        assert client.get("/metrics").text.count("retrieve_requests_in_work 0.0") == 1
    assert made == [("ensemble", 4), ("ensemble", 2), ("occlusion", 4)]


def test_filters_select_the_hits(client: TestClient, indexed: Indexed) -> None:
    def labels(**filters: Any) -> set[str]:
        found = client.post("/api/query", params={"explain": False, **filters}, content=indexed.picture.read_bytes())
        return {hit["picture"]["label"] for hit in found.json()["hits"]}

    assert labels(label="boats") == {"boats"}
    assert labels(folder=str(indexed.gallery / "cats")) == {"cats"}
    assert labels(folder=str(indexed.gallery)) >= {*CLASSES, "odd"}
    assert labels(since="1990") == set()
    similar = client.post("/api/query?explain=false&min_similarity=0.9", content=indexed.picture.read_bytes()).json()
    assert similar["hits"]
    assert all(hit["similarity"] >= 0.9 for hit in similar["hits"])


def test_foreign_questions_and_hits_that_are_not_probable_are_named(
    client: TestClient, indexed: Indexed, tmp_path: Path
) -> None:
    found = client.post("/api/query?explain=false", content=indexed.picture.read_bytes()).json()
    assert (found["similarity_by"], found["foreign"], found["confident"]) == ("gallery", False, True)
    assert all(0 < hit["probability"] < 1 for hit in found["hits"])
    found = client.post("/api/query?explain=false&confidence=1", content=indexed.picture.read_bytes()).json()
    assert (found["confident"], found["foreign"]) == (False, False)
    assert found["doubt"].startswith("Nothing in this gallery is confidently of the same kind")
    assert client.get("/api/status").json()["similarity"] == "by what is usual in this gallery"
    grey = tmp_path / "grey.png"
    Image.new("RGB", (200, 200), (120, 120, 120)).save(grey)
    found = client.post("/api/query?explain=false", content=grey.read_bytes()).json()
    assert (found["foreign"], found["confident"], found["familiarity"] < 0.1) == (True, False, True)
    assert found["doubt"].startswith("None of the pictures searched looks like this one")


def test_a_pair_is_explained_by_any_method(client: TestClient, engine: Engine, indexed: Indexed) -> None:
    pictures = by_name(client)
    a, b = pictures[f"{CLASSES[0]}/0.png"], pictures[f"{CLASSES[1]}/1.png"]
    for method in ("gradcam", "local"):
        params = {"picture": a["id"], "hit": b["id"], "method": method}
        found = client.get("/api/explain", params=params).json()
        expected = engine.explain(indexed.picture, indexed.gallery / CLASSES[1] / "1.png", method=method)
        assert found["method"] == method
        assert np.shape(found["hit"]["factual"]) == (7, 7)
        assert found["distance"] == pytest.approx(expected.distance, abs=1e-6)
        np.testing.assert_allclose(found["hit"]["factual"], expected.hit.factual, atol=5e-3)


def test_a_result_is_exported_as_a_self_contained_page(client: TestClient, indexed: Indexed) -> None:
    name = client.post("/api/uploads", content=indexed.picture.read_bytes()).json()["upload"]
    answer = client.get("/api/export", params={"upload": name, "top": 2, "verify": True})
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "article" in Checker(answer.text).tags
    assert "default-src 'none'" in answer.text
    assert answer.text.count("<article>") == 2
    assert "<script" not in answer.text


# The gallery


def test_the_gallery_is_listed_in_pages(client: TestClient) -> None:
    whole = client.get("/api/pictures?most=200").json()
    assert whole["next"] is None
    assert whole["total"] == len(whole["pictures"])
    parts, after = [], ""
    while after is not None:
        part = client.get("/api/pictures", params={"most": 5, "after": after}).json()
        parts += part["pictures"]
        after = part["next"]
    assert parts == whole["pictures"]


@pytest.mark.slow
def test_odd_names_are_displayed_as_plain_text(client: TestClient, indexed: Indexed) -> None:
    odd = client.get("/api/pictures", params={"label": "odd"}).json()["pictures"]
    assert {each["name"] for each in odd} >= {"caf\\xe9 \\xff.png", "two\\x0alines.png", "[red]<b>&.png"}
    for each in odd:
        assert client.get("/" + each["image"]).status_code == 200
        hits = client.get("/api/query", params={"picture": each["id"], "top": 2})
        assert hits.status_code == 200
        assert client.get("/api/export", params={"picture": each["id"], "top": 1}).text.count("<b>&.png") == 0


def test_images_are_sent_small_and_cached_by_the_browser(client: TestClient, indexed: Indexed) -> None:
    picture = by_name(client)[f"{CLASSES[0]}/0.png"]
    assert (picture["width"], picture["height"]) == (160, 100)
    answer = client.get("/" + picture["image"] + "&side=224")
    assert Image.open(io.BytesIO(answer.content)).size == (224, 140)
    assert answer.headers["cache-control"] == "private, no-cache"
    again = client.get("/" + picture["image"] + "&side=224", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/api/pictures/{picture['id']}/image?side=10000").status_code == 422
    assert client.get(f"/api/pictures/{picture['id']}").json() == picture


def test_an_image_is_cached_only_under_its_current_version(client: TestClient) -> None:
    for query in ("", "?version=0123456789abcdef", "?side=1024"):
        assert client.get(f"/api/pictures/2/image{query}").headers["cache-control"] == "no-store"


def test_near_duplicates_of_a_hit_do_not_take_the_places_of_others(indexed: Indexed, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    for number in range(30):  # more of one than a batch of hits
        Image.fromarray(blocks(0)).save(gallery / f"burst-{number:02}.png", compress_level=number % 10)
    for number in range(1, 5):
        Image.fromarray(blocks(number)).save(gallery / f"other-{number}.png")
    engine = Engine.create(tmp_path / "store")
    engine.index(gallery)
    engine.close()
    with client_of(tmp_path / "store") as client:
        content = (gallery / "burst-00.png").read_bytes()
        hits = client.post("/api/query?top=4&collapse=true&explain=false", content=content).json()["hits"]
    assert len(hits) > 1
    assert len(hits[0]["copies"]) >= 29
    assert sum(1 + len(hit["copies"]) for hit in hits) == 34  # each is there, as a hit or under one


def test_the_status_reports_what_the_store_holds(client: TestClient, indexed: Indexed) -> None:
    status = client.get("/api/status").json()
    assert set(status["labels"]) >= {*CLASSES, "odd"}
    assert status["galleries"][0]["folder"] == str(indexed.gallery)
    assert status["failed"] == 2
    assert status["indexing"] is None
    assert set(client.get("/api/folders").json()) >= {str(indexed.gallery / name) for name in (*CLASSES, "odd")}


def test_status_counts_failures_without_reading_them(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScanRecords, "failures", lambda records: pytest.fail("all failures were read"))
    assert client.get("/api/status").json()["failed"] == 2


def test_metrics_are_counted_by_route(client: TestClient) -> None:
    client.get("/api/pictures/1/image")
    client.get("/no-such-thing")
    metrics = client.get("/metrics").text
    assert 'retrieve_requests_total{method="GET",route="/api/pictures/{picture}/image",status="200"}' in metrics
    assert "no-such-thing" not in metrics
    assert "retrieve_pictures 16.0" in metrics
    assert "retrieve_requests_in_work 0.0" in metrics


def test_the_documentation_comes_from_this_machine(client: TestClient) -> None:
    assert "swagger/swagger-ui-bundle.js" in client.get("/docs").text
    for path in ("/swagger/swagger-ui-bundle.js", "/swagger/swagger-ui.css", "/static/docs.js", "/favicon.ico"):
        assert client.get(path).status_code == 200
    document = client.get("/openapi.json").json()
    assert {"/api/query", "/api/explain", "/api/pictures", "/health", "/metrics"} <= document["paths"].keys()
    assert all(verb["responses"]["422"] for path in document["paths"].values() for verb in path.values())


def test_a_store_is_brought_up_to_date_from_the_page(indexed: Indexed, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    Image.fromarray(blocks(1)).save(gallery / "a.png")
    engine = Engine.create(tmp_path / "store")
    engine.index(gallery)
    engine.close()
    with client_of(tmp_path / "store") as client:
        Image.fromarray(blocks(2)).save(gallery / "b.png")
        assert client.get("/api/status").json()["pictures"] == 1
        assert client.post("/api/index").status_code == 202
        deadline = time.monotonic() + 60
        while client.get("/api/status").json()["indexing"] is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get("/api/status").json()["pictures"] == 2
        query = client.post("/api/query?explain=false", content=(gallery / "b.png").read_bytes()).json()
        assert query["hits"][0]["picture"]["name"] == "b.png"
        os.unlink(gallery / "a.png")
        hits = client.post("/api/query?explain=false", content=(gallery / "b.png").read_bytes()).json()["hits"]
        assert [hit["picture"]["name"] for hit in hits] == ["b.png"]


def test_the_status_reports_an_error_that_another_process_clears_meanwhile(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at the error it may be gone; one answer has one look."""

    def read_then_clear(file: Path) -> bytes:
        content = real(file)
        if file.name == "failed":
            file.unlink()
        return content

    real = Path.read_bytes
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    Image.fromarray(blocks(1)).save(gallery / "a.png")
    engine = Engine.create(tmp_path / "store")
    engine.index(gallery)
    engine.close()
    shutil.rmtree(gallery)
    with client_of(tmp_path / "store") as client:
        client.post("/api/index")
        deadline = time.monotonic() + 60
        while client.get("/api/status").json()["indexing"] is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        monkeypatch.setattr(Path, "read_bytes", read_then_clear)
        assert str(gallery) in client.get("/api/status").json()["indexing_error"]
        assert client.get("/api/status").json()["indexing_error"] is None


# Refusals


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/swagger/../../../../../../etc/passwd",
        "/api/pictures/..%2f..%2fetc%2fpasswd/image",
        "/api/uploads/..%2f..%2fetc%2fpasswd/image",
        "/api/uploads/" + "0" * 64 + "/image",
        "/api/pictures/999999/image",
        "/api/pictures/0/image",
        "/api/pictures/99999999999999999999/image",
        "/no-such-thing",
    ],
)
def test_no_path_leads_to_a_file(client: TestClient, path: str) -> None:
    answer = client.get(f"{client.base_url}{path}")
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text
    assert "import" not in answer.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no picture came"),
        (b"no picture", "not a picture in a known format"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "not a picture"),
    ],
)
def test_content_that_is_no_picture_is_refused_in_one_sentence(
    client: TestClient, content: bytes, message: str
) -> None:
    answer = client.post("/api/query", content=content)
    assert message in sentence(answer, 422 if content else 400)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG whose header claims this size."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (header, *chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_huge_pixels_are_refused_before_they_are_decoded(client: TestClient) -> None:
    bomb = png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(1000))))
    assert "megapixels" in sentence(client.post("/api/query", content=bomb), 422)


def test_compressed_content_is_not_unpacked_at_length(client: TestClient) -> None:
    zeros = zlib.compress(bytes(50_000_000))
    text = png(10, 10, (b"zTXt", b"Comment\0\0" + zeros), (b"IDAT", zlib.compress(bytes(10 * 31))))
    answer = client.post("/api/query?explain=false", content=text)
    assert answer.status_code in (200, 422)  # the text is skipped or the picture refused
    packed = client.post("/api/query", content=zeros, headers={"content-encoding": "deflate"})
    assert "compressed" in sentence(packed, 415)


def test_a_file_that_is_too_large_is_refused(indexed: Indexed) -> None:
    with client_of(indexed.store, ServerConfig(max_upload=1000)) as client:
        assert "--max-upload" in sentence(client.post("/api/query", content=bytes(1001)), 413)
        assert "--max-upload" in sentence(client.post("/api/uploads", content=iter([bytes(600)] * 2)), 413)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "picture or upload"),
        ("picture=1&upload=" + "0" * 64, "picture or upload"),
        ("picture=999999", "no picture 999999"),
        ("picture=x", "picture"),
        ("picture=1&top=0", "top"),
        ("picture=1&top=101", "top"),
        ("picture=1&since=yesterday", "not a date"),
        ("picture=1&folder=/etc", "no folder of the gallery"),
        ("picture=1&method=magic", "method"),
        ("picture=1&nonsense=1", "nonsense"),
        ("picture=1&detail=448", "/api/explain"),
        ("picture=1&detail=447&explain=false", "detail"),
        ("picture=1&method=scorecam", "/api/explain"),
        ("picture=1&verify=true&top=25", "/api/explain"),
        ("upload=" + "0" * 64, "no longer kept"),
    ],
)
def test_a_wrong_query_is_refused_in_one_sentence(client: TestClient, query: str, message: str) -> None:
    answer = client.get(f"/api/query?{query}")
    assert message in sentence(answer, 404 if "no picture" in message or "no longer" in message else 422)


def test_a_form_with_a_picture_is_taken(client: TestClient, indexed: Indexed) -> None:
    content = indexed.picture.read_bytes()
    sent = client.post("/api/query?top=2&explain=false", files={"file": ("a.png", content, "image/png")}).json()
    assert sent["hits"] == client.post("/api/query?top=2&explain=false", content=content).json()["hits"]
    assert client.post("/api/uploads", files={"any": content}).json() == sent["query"]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("text/plain", b"/photos/a.jpg\n/photos/b.jpg\n", "that is text: send a picture's bytes as the body"),
        ("application/json", b'{"image": "aGVsbG8="}', "that is text: send a picture's bytes as the body"),
        ("application/x-www-form-urlencoded", b"\xff\xd8\xff\xe0\x10JFIF", "use --data-binary @photo.jpg or -F"),
    ],
)
def test_what_was_sent_in_place_of_a_picture_is_named(
    client: TestClient, kind: str, content: bytes, message: str
) -> None:
    assert message in sentence(client.post("/api/uploads", content=content, headers={"content-type": kind}), 422)


def test_a_full_queue_says_when_to_repeat_the_request(indexed: Indexed) -> None:
    with client_of(indexed.store, ServerConfig(queue=0)) as client:
        answer = client.post("/api/query", content=indexed.picture.read_bytes())
        assert "repeat this one" in sentence(answer, 503)
        assert answer.headers["retry-after"] == "1"
        assert client.get("/api/status").status_code == 200


def test_a_slot_is_always_released(indexed: Indexed) -> None:
    with client_of(indexed.store, ServerConfig(queue=1)) as client:
        for content in (b"no picture", indexed.picture.read_bytes(), b"", indexed.picture.read_bytes()):
            answer = client.post("/api/query?top=2&stream=true", content=content)
            assert answer.status_code != 503
        assert "retrieve_requests_in_work 0.0" in client.get("/metrics").text


def test_a_hit_whose_file_is_broken_now_is_unexplained(indexed: Indexed, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    for number in range(3):
        Image.fromarray(blocks(number)).save(gallery / f"{number}.png")
    engine = Engine.create(tmp_path / "store")
    engine.index(gallery)
    engine.close()
    content = (gallery / "0.png").read_bytes()
    (gallery / "1.png").write_bytes(b"broken")
    with client_of(tmp_path / "store") as client:
        found = client.post("/api/query", content=content).json()
        kinds = {hit["picture"]["name"]: each for hit, each in zip(found["hits"], found["explanations"], strict=True)}
        assert kinds["1.png"]["type"] == "unexplained"
        assert "not a picture" in kinds["1.png"]["error"]
        assert kinds["2.png"]["type"] == "explanation"
        broken = next(hit["picture"] for hit in found["hits"] if hit["picture"]["name"] == "1.png")
        assert "was changed" in sentence(client.get("/" + broken["image"]), 404)
        assert client.get("/api/export", params={"picture": found["hits"][0]["picture"]["id"]}).status_code == 200
        answer = client.get("/api/query", params={"picture": broken["id"]}).json()
        assert {each["type"] for each in answer["explanations"]} == {"unexplained"}
