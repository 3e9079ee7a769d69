"""The LRU cache."""

import threading

from resnet_demo.lru import LRU


def test_the_least_recently_used_item_is_evicted():
    cache = LRU(2)
    cache["a"], cache["b"] = 1, 2
    assert cache.get("a") == 1  # now "b" is the oldest
    cache["c"] = 3
    assert list(cache) == ["a", "c"]
    assert (cache.get("b"), cache.get("b", 0)) == (None, 0)


def test_writing_an_item_again_makes_it_the_newest_and_counts_it_once():
    cache = LRU(2)
    cache["a"], cache["b"], cache["a"] = 1, 2, 3
    assert (len(cache), cache.values()) == (2, [2, 3])


def test_the_limit_counts_sizes_and_the_newest_item_stays_however_large():
    cache = LRU(10, size=len)
    cache["a"], cache["b"] = b"12345", b"12345"
    assert len(cache) == 2
    cache["b"] = b"123456"  # 11 with "a"
    assert list(cache) == ["b"]
    cache["c"] = bytes(100)
    assert list(cache) == ["c"]
    cache["d"] = b""  # "c" alone is over the limit
    assert list(cache) == ["d"]


def test_a_removed_item_frees_its_size():
    cache = LRU(10, size=len)
    cache["a"] = bytes(10)
    assert cache.pop("a", b"") == bytes(10)
    assert cache.pop("a", None) is None
    cache["b"], cache["c"] = bytes(5), bytes(5)
    assert "a" not in cache
    assert len(cache) == 2


def test_many_threads_may_write_at_once():
    cache = LRU(10)

    def write(start: int) -> None:
        for number in range(2000):
            cache[start, number % 20] = number
            cache.get((start, number % 7))

    threads = [threading.Thread(target=write, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 10
