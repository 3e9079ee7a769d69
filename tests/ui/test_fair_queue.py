"""Whose turn it is when many ask at once."""

import asyncio

import pytest

from resnet_demo.tasks.limits import LimitError
from resnet_demo.ui.fair_queue import FairQueue


async def served(fair, names, leave=()):
    """In which order requests by these visitors get their turn; places in `leave` go away."""
    order = []

    async def one(place, name):
        async with fair.slot(name):
            order.append(name)
            await asyncio.sleep(0)

    tasks = []
    for place, name in enumerate(names):
        tasks.append(asyncio.create_task(one(place, name)))
        await asyncio.sleep(0)
    for place in leave:
        tasks[place].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return order


def test_who_sends_fifty_requests_delays_another_by_two_places_at_most():
    async def held():
        fair = FairQueue(1)
        async with fair.slot("flood"):
            done = asyncio.create_task(served(fair, ["flood"] * 50 + ["other", "third"]))
            while fair.waiting < 52:
                await asyncio.sleep(0)
        return await done

    order = asyncio.run(held())
    assert order.index("other") <= 2
    assert order.index("third") <= 3
    assert order.count("flood") == 50


def test_those_who_ask_once_are_served_in_order():
    async def held():
        fair = FairQueue(1)
        async with fair.slot("first"):
            done = asyncio.create_task(served(fair, [f"visitor {n}" for n in range(100)]))
            while fair.waiting < 100:
                await asyncio.sleep(0)
        return await done

    assert asyncio.run(held()) == [f"visitor {n}" for n in range(100)]


def test_a_full_line_says_so_but_who_has_begun_goes_on():
    async def full():
        fair = FairQueue(1, max_waiting=2)
        async with fair.slot("a"):
            waiting = [asyncio.create_task(served(fair, [name])) for name in "bc"]
            while fair.waiting < 2:
                await asyncio.sleep(0)
            with pytest.raises(LimitError, match=r"^2 requests are waiting: try again"):
                async with fair.slot("d"):
                    pass
            again = asyncio.create_task(fair.slot("a", is_first=False).__aenter__())
        await asyncio.gather(*waiting, again)

    asyncio.run(full())


@pytest.mark.parametrize("leave", [(0,), (1, 2), (3,), (0, 1, 2, 3)])
def test_who_goes_away_takes_no_turn_with_him(leave):
    async def left():
        fair = FairQueue(1)
        async with fair.slot("first"):
            done = asyncio.create_task(served(fair, "abab", leave))
            while fair.waiting < 4 and not done.done():
                await asyncio.sleep(0)
        order = await done
        return order, fair.free, fair.lines

    order, free, lines = asyncio.run(left())
    assert (len(order), free, lines) == (4 - len(leave), 1, {})
