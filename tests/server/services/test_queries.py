import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from indexes.arrays import Ids
from indexes.catalogue.records import EVERYTHING, Selection
from indexes.errors import StoreError
from retrieval.engine import Engine
from retrieval.server.services.queries import QueryJob, QueryService, QuerySubject
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
