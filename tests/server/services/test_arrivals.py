import asyncio

import pytest

from retrieval.server.errors import RequestRefused
from retrieval.server.services import arrivals
from retrieval.server.services.arrivals import Arrivals


async def arrive(places: Arrivals, client: str, rate: int, seconds: float) -> str:
    """Send so many bytes a second, for so long; return what came of it."""
    try:
        async with asyncio.timeout(None) as timeout:
            with places.room(client, timeout) as arrival:
                for _ in range(round(seconds / 0.02)):
                    arrival.add(round(rate * 0.02))
                    await asyncio.sleep(0.02)
    except TimeoutError:
        return "gave up"
    except RequestRefused:
        return "refused"
    return "arrived"


def test_slow_pictures_make_room_for_others() -> None:
    async def run() -> list[str]:
        places = Arrivals(4)
        slow = [asyncio.create_task(arrive(places, "slow", 3, 2)) for _ in range(4)]
        await asyncio.sleep(0.05)
        return [*[await arrive(places, f"{number}", 10**6, 0.1) for number in range(6)], *await asyncio.gather(*slow)]

    found = asyncio.run(run())
    assert found[:6] == ["arrived"] * 6
    assert found[6:].count("gave up") == 1  # there was room after the first


def test_the_slowest_of_the_client_with_the_most_makes_room() -> None:
    async def run() -> list[str]:
        places = Arrivals(3)
        senders = [("a", 30_000), ("b", 10), ("a", 20_000)]
        before = [asyncio.create_task(arrive(places, client, rate, 0.6)) for client, rate in senders]
        await asyncio.sleep(0.3)
        return [await arrive(places, "c", 10**6, 0.02), *await asyncio.gather(*before)]

    assert asyncio.run(run()) == ["arrived", "arrived", "arrived", "gave up"]


def test_pictures_that_come_fast_are_not_interrupted() -> None:
    async def run() -> list[str]:
        places = Arrivals(2)
        fast = [asyncio.create_task(arrive(places, "fast", 10**6, 0.4)) for _ in range(2)]
        await asyncio.sleep(0.2)
        return [await arrive(places, "next", 10**6, 0.1), *await asyncio.gather(*fast)]

    assert asyncio.run(run()) == ["refused", "arrived", "arrived"]


@pytest.mark.parametrize(("rate", "outcome"), [(0, "gave up"), (100, "gave up"), (20_000, "arrived")])
def test_a_picture_has_as_long_as_its_rate_earns(rate: int, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "GRACE_SECONDS", 0.2)
    assert asyncio.run(arrive(Arrivals(1), "", rate, 0.6)) == outcome
