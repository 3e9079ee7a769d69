"""A mapping that evicts its least recently used items."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, overload

Key = TypeVar("Key")
Value = TypeVar("Value")
Default = TypeVar("Default")


class LRU(Generic[Key, Value]):
    """A thread-safe cache of at most `limit` items, or of items of at most `limit` in all.

    size: the size of a value, in the unit of `limit`; without it each item counts 1. The newest
    item stays, however large it is. Reading or writing an item makes it the most recently used.
    """

    def __init__(self, limit: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        self.limit, self.size = limit, size
        self._items: OrderedDict[Key, tuple[Value, int]] = OrderedDict()  # value, its size
        self._total = 0
        self._lock = threading.Lock()

    @overload
    def get(self, key: Key) -> Value | None: ...
    @overload
    def get(self, key: Key, default: Default) -> Value | Default: ...
    def get(self, key: Key, default: object = None) -> object:
        """Return the value, or `default` if the key is missing."""
        with self._lock:
            if key not in self._items:
                return default
            self._items.move_to_end(key)
            return self._items[key][0]

    def __setitem__(self, key: Key, value: Value) -> None:
        size = self.size(value)  # before the lock: it may take long
        with self._lock:
            self._total += size - self._items.pop(key, (None, 0))[1]
            self._items[key] = value, size
            # The newest stays, also if it alone exceeds the limit: the caller is about to use it.
            while self._total > self.limit and len(self._items) > 1:
                self._total -= self._items.popitem(last=False)[1][1]

    def pop(self, key: Key, default: Default) -> Value | Default:
        """Remove the key and return its value, or `default` if it is missing."""
        with self._lock:
            if key not in self._items:
                return default
            value, size = self._items.pop(key)
            self._total -= size
            return value

    def values(self) -> list[Value]:
        """Return the values, the least recently used first."""
        with self._lock:
            return [value for value, _ in self._items.values()]

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Key]:
        with self._lock:
            # A copy: another thread may change the cache during the iteration.
            return iter(list(self._items))
