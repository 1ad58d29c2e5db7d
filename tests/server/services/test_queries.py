import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from indexes.arrays import Ids
from indexes.catalogue.records import EVERYTHING, Selection
from indexes.errors import StoreError
from retrieval.common.settings import QUICK_METHOD, ExplainOptions, MethodName
from retrieval.engine import Engine
from retrieval.explain.explanation import Explanation, Heatmaps
from retrieval.server.services.queries import (
    CHUNK,
    FIRST_GLANCE,
    MAX_SLOW,
    ONLY_GLANCE,
    ExplainedHit,
    QueryJob,
    QueryService,
    QuerySubject,
)
from tests.support.store import Indexed


@pytest.fixture(scope="module")
def engine(indexed: Indexed) -> Iterator[Engine]:
    with Engine.open(indexed.store) as engine:
        yield engine


@pytest.fixture
def service(engine: Engine) -> Iterator[QueryService]:
    service = QueryService(engine)
    yield service
    service.close()


def indexed_subject(service: QueryService, picture_id: int) -> QuerySubject:
    return asyncio.run(service.load_indexed(service.find_picture(picture_id)))


def test_a_search_that_fails_fails_no_other_query_of_its_batch(
    service: QueryService, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def candidates(descriptors: Any, pool: int, selection: Selection) -> list[Ids]:
        if selection == broken:
            raise StoreError("the index is damaged")
        return real(descriptors, pool, selection)

    async def run_together() -> list[Any]:
        jobs = [QueryJob(subject, 3, selection) for selection in (EVERYTHING, broken, EVERYTHING)]
        blocked = asyncio.create_task(service.call(lambda: asyncio.run(asyncio.sleep(0.2))))  # so that they wait
        await asyncio.sleep(0.05)
        answers = await asyncio.gather(*(service.run_query(job) for job in jobs), return_exceptions=True)
        await blocked
        return answers

    real = engine.queries.candidates
    broken = Selection("no such label")
    subject = indexed_subject(service, 1)
    monkeypatch.setattr(engine.queries, "candidates", candidates)
    first, failed, last = asyncio.run(run_together())
    assert isinstance(failed, StoreError)
    assert len(first.hits) == 3
    assert [hit.id for hit in first.hits] == [hit.id for hit in last.hits]


# A first glance, and what settles it

HITS = CHUNK + 2
SLOW = ExplainOptions(MethodName.occlusion)
EMPTY = Heatmaps(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), 0.0)
Step = tuple[int, str, str | None]
"""A hit's rank, the method of its explanation, and its glance."""

GLANCES = [(rank, str(QUICK_METHOD), FIRST_GLANCE) for rank in range(1, HITS + 1)]


class Explained:
    """What the engine was asked to explain: the method, the number of pictures, and the thread."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[MethodName, int, int]] = []
        monkeypatch.setattr(engine.queries, "explain_pixels", self._explain)

    def _explain(self, query: Any, others: Any, distances: Any, options: ExplainOptions) -> list[Explanation]:
        self.calls.append((options.method, len(others), threading.get_ident()))
        return [Explanation(EMPTY, EMPTY, 0.1, "similar", False, options.method)] * len(others)


@pytest.fixture
def explained(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Explained:
    return Explained(engine, monkeypatch)


def step(explained: ExplainedHit) -> Step:
    assert isinstance(explained.result, Explanation)
    return explained.hit.rank, explained.result.method, explained.glance


async def explain_soon(service: QueryService, most: int = 100, blocked_at: int = 0) -> list[Step]:
    """Explain until there are so many steps; the slow thread is full from one of them on."""
    subject = await service.load_indexed(service.find_picture(1))
    answer = await service.run_query(QueryJob(subject, HITS, EVERYTHING))
    steps: list[Step] = []
    go = threading.Event()
    waiting: list[asyncio.Task[bool]] = []
    async for each in service.explain_soon(answer.subject, answer.hits, SLOW):
        steps.append(step(each))
        if len(steps) == blocked_at:
            jobs = (service.call_slowly(lambda: go.wait(10), service.settling_limit) for _ in range(MAX_SLOW))
            waiting = [asyncio.create_task(job) for job in jobs]
            await asyncio.sleep(0)
        if len(steps) == most:
            break
    go.set()
    await asyncio.gather(*waiting)
    return steps


def test_hits_have_a_first_glance_that_is_settled_on_the_slow_thread(
    service: QueryService, explained: Explained
) -> None:
    engine_thread = asyncio.run(service.call(threading.get_ident))
    steps = asyncio.run(explain_soon(service))
    assert steps == [*GLANCES, *((rank, "occlusion", None) for rank in range(1, HITS + 1))]
    assert [(method, count) for method, count, _ in explained.calls] == [
        (QUICK_METHOD, CHUNK),
        (QUICK_METHOD, HITS - CHUNK),
        (MethodName.occlusion, CHUNK),
        (MethodName.occlusion, HITS - CHUNK),
    ]
    assert [thread == engine_thread for *_, thread in explained.calls] == [True, True, False, False]


@pytest.mark.parametrize(("blocked_at", "settled"), [(HITS, 0), (HITS + 1, CHUNK)])
def test_a_first_glance_remains_if_the_slow_thread_is_full(
    service: QueryService, explained: Explained, blocked_at: int, settled: int
) -> None:
    steps = asyncio.run(explain_soon(service, blocked_at=blocked_at))
    ranks = range(1, HITS + 1)
    assert steps[:HITS] == GLANCES
    assert steps[HITS:] == [
        (rank, "occlusion", None) if rank <= settled else (rank, str(QUICK_METHOD), ONLY_GLANCE) for rank in ranks
    ]


def test_nothing_more_is_found_out_once_the_client_has_gone(service: QueryService, explained: Explained) -> None:
    asyncio.run(explain_soon(service, most=HITS + 1))
    assert [count for method, count, _ in explained.calls if method is MethodName.occlusion] == [CHUNK]
