"""The queue of slow requests: order, limit and cancellation."""

import asyncio

import pytest

from resnet_demo.tasks.limits import LimitError
from resnet_demo.ui.fair_queue import FairQueue


async def served(queue, names, leave=()):
    """Return the order in which these visitors' requests are served; `leave` are cancelled."""
    order = []

    async def one(place, name):
        async with queue.slot(name):
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


def test_fifty_requests_of_one_visitor_delay_another_by_two_places_at_most():
    async def held():
        queue = FairQueue(1)
        async with queue.slot("flood"):
            done = asyncio.create_task(served(queue, ["flood"] * 50 + ["other", "third"]))
            while queue.waiting < 52:
                await asyncio.sleep(0)
        return await done

    order = asyncio.run(held())
    assert order.index("other") <= 2
    assert order.index("third") <= 3
    assert order.count("flood") == 50


def test_visitors_with_one_request_are_served_in_order():
    async def held():
        queue = FairQueue(1)
        async with queue.slot("first"):
            done = asyncio.create_task(served(queue, [f"visitor {n}" for n in range(100)]))
            while queue.waiting < 100:
                await asyncio.sleep(0)
        return await done

    assert asyncio.run(held()) == [f"visitor {n}" for n in range(100)]


def test_a_full_queue_refuses_new_requests_but_not_running_ones():
    async def full():
        queue = FairQueue(1, max_waiting=2)
        async with queue.slot("a"):
            waiting = [asyncio.create_task(served(queue, [name])) for name in "bc"]
            while queue.waiting < 2:
                await asyncio.sleep(0)
            with pytest.raises(LimitError, match=r"^2 requests are waiting: try again"):
                async with queue.slot("d"):
                    pass
            again = asyncio.create_task(queue.slot("a", is_first=False).__aenter__())
        await asyncio.gather(*waiting, again)

    asyncio.run(full())


@pytest.mark.parametrize("leave", [(0,), (1, 2), (3,), (0, 1, 2, 3)])
def test_a_cancelled_request_takes_no_slot(leave):
    async def left():
        queue = FairQueue(1)
        async with queue.slot("first"):
            done = asyncio.create_task(served(queue, "abab", leave))
            while queue.waiting < 4 and not done.done():
                await asyncio.sleep(0)
        order = await done
        return order, queue.free, queue.lines

    order, free, lines = asyncio.run(left())
    assert (len(order), free, lines) == (4 - len(leave), 1, {})
