"""Limits on the connections of the web server: silent ones are closed, and each address has few.

uvicorn closes only connections that are idle between two requests. A client that opens connections
and sends nothing, half a request head or half a body, or does not read its answer, would hold them,
and a descriptor each, for ever.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from resnet_demo.hosting.access import visitor_address
from resnet_demo.tasks.limits import Throttle

HEAD_S = 30.0  # for a complete request head
BODY_S = 30.0  # within which at least MIN_BYTES of an unfinished body must arrive
# Within which a client must read a part of an answer that waits. Longer than BODY_S: the kernel
# asks for more only when it has passed on a third of its buffer, some megabytes.
ANSWER_S = 60.0
MIN_BYTES = 1024
MAX_WAITING = 200  # connections of one address that wait for their client
MAX_NEW, NEW_S = 500, 5.0  # connections that one address opens within so many seconds
RESERVED_DESCRIPTORS = 100  # for files, workers and the event loop
FEWEST_CONNECTIONS = 32
# Phases of a connection that waits for its client: for a request head, a body, the rest of a body
# that is not used, or until the last answer is read.
WAITING = ("head", "body", "rest", "closing")


@dataclass(eq=False)
class ConnectionGuard:
    """The connections of one server. For its event loop only.

    max_connections: of all addresses together. proxies: addresses that open connections for many
    visitors, so that the number of new ones is not limited; "*" for all.
    """

    head_s: float = HEAD_S
    body_s: float = BODY_S
    answer_s: float = ANSWER_S
    min_bytes: int = MIN_BYTES
    max_waiting: int = MAX_WAITING
    max_connections: int = field(default_factory=lambda: connection_limit())  # defined below
    proxies: frozenset[str] = frozenset({"*"})
    new: Throttle = field(default_factory=lambda: Throttle(MAX_NEW, NEW_S))
    count: int = 0
    # In order of arrival: the oldest is closed first.
    waiting: dict["GuardedProtocol", None] = field(default_factory=dict)
    addresses: Counter[str] = field(default_factory=Counter)  # of waiting connections

    def protocol(self, *args: Any, **options: Any) -> "GuardedProtocol":
        """Return the protocol of a new connection, as uvicorn makes it."""
        return GuardedProtocol(self, *args, **options)

    def is_flood(self, address: str) -> bool:
        """Count a new connection; return whether its address opens too many."""
        if not self.proxies.isdisjoint((address, "*")):
            return False
        if self.new.wait_s(address) > 0:
            return True
        self.new.record(address)
        return False

    def set_waiting(self, connection: "GuardedProtocol", waits: bool) -> None:
        """Record whether a connection waits for its client; close the oldest of too many."""
        if waits == (connection in self.waiting):
            return
        if not waits:
            del self.waiting[connection]
            self.addresses[connection.address] -= 1
            if not self.addresses[connection.address]:
                del self.addresses[connection.address]
            return
        self.waiting[connection] = None
        self.addresses[connection.address] += 1
        if self.addresses[connection.address] > self.max_waiting:
            self.close_oldest(connection.address)

    def close_oldest(self, address: str | None = None) -> None:
        """Close the connection that waits for longest, of one address or of the one with most."""
        if address is None and self.addresses:
            [(address, _)] = self.addresses.most_common(1)
        found = (each for each in self.waiting if each.address == address)
        if (oldest := next(found, None)) is not None:
            oldest.abort()


class GuardedProtocol(H11Protocol):
    """An HTTP/1.1 connection with deadlines for head and body, and for reading the answer.

    The app may take as long as it likes to answer.
    """

    def __init__(self, guard: ConnectionGuard, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guard = guard
        self.address = "unknown"
        self.phase = ""
        self.timer: asyncio.TimerHandle | None = None
        self.received = 0  # bytes since the timer was set
        self.unread_timer: asyncio.TimerHandle | None = None
        self.unread = 0  # bytes of the answer when that timer was set

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection and wait for a request head."""
        super().connection_made(transport)
        self.address = visitor_address(self.client[0]) if self.client else "unknown"
        self.guard.count += 1
        if self.guard.is_flood(self.address):
            self.abort()  # before anything is read: that costs least
            return
        self.follow()
        if self.guard.count > self.guard.max_connections:
            self.guard.close_oldest()

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on and set the deadline of what must come next."""
        self.received += len(data)
        super().data_received(data)
        self.follow()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that is not read."""
        super().on_response_complete()
        self.follow()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self.guard.count -= 1
        self.enter("lost")
        self.stop_unread_timer()

    def pause_writing(self) -> None:
        """Set a deadline for a client that reads more slowly than the app answers."""
        super().pause_writing()
        self.set_unread_timer()

    def resume_writing(self) -> None:
        """Remove the deadline: the client has read."""
        super().resume_writing()
        self.stop_unread_timer()

    def follow(self) -> None:
        """Set the deadline of the phase that the connection is in."""
        if self.transport.is_closing():
            self.enter("closing")
            self.set_unread_timer()  # it closes when the client has read the rest of the answer
            return
        theirs, ours = self.conn.their_state, self.conn.our_state
        if theirs is h11.IDLE:
            self.enter("head")
        elif theirs is h11.SEND_BODY:
            # After an early answer, as 413, the rest of the body is read and dropped.
            self.enter("rest" if ours in (h11.DONE, h11.MUST_CLOSE) else "body")
        else:
            self.enter("answer")

    def enter(self, phase: str) -> None:
        """Start a phase, unless the connection is in it already."""
        if phase == self.phase:
            return
        self.phase = phase
        self.set_timer()
        self.guard.set_waiting(self, phase in WAITING)

    def set_timer(self) -> None:
        """Start the timer of this phase; none while the app answers."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.received = None, 0
        if self.phase in ("head", "body", "rest"):
            seconds = self.guard.head_s if self.phase == "head" else self.guard.body_s
            self.timer = self.loop.call_later(seconds, self.check)

    def check(self) -> None:
        """Close the connection, unless its body arrives or the app itself is slow to read it."""
        has_progress = self.flow.read_paused or self.received >= self.guard.min_bytes
        if self.phase == "body" and has_progress:
            self.set_timer()
        else:
            self.abort()

    def set_unread_timer(self) -> None:
        """Start the timer of an answer that waits for its client."""
        self.stop_unread_timer()
        self.unread = self.transport.get_write_buffer_size()
        self.unread_timer = self.loop.call_later(self.guard.answer_s, self.check_unread)

    def stop_unread_timer(self) -> None:
        """Stop the timer of an answer that waits."""
        if self.unread_timer is not None:
            self.unread_timer.cancel()
            self.unread_timer = None

    def check_unread(self) -> None:
        """Close the connection, unless its client reads."""
        if self.unread - self.transport.get_write_buffer_size() >= self.guard.min_bytes:
            self.set_unread_timer()
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once: nothing that it should still send is worth waiting for."""
        self.enter("lost")
        self.transport.abort()


def known_proxies(environment: Mapping[str, str]) -> frozenset[str]:
    """Return the addresses of proxies that uvicorn trusts; all on a Space, which is behind some."""
    if "SPACE_ID" in environment:
        return frozenset({"*"})
    listed = environment.get("FORWARDED_ALLOW_IPS", "127.0.0.1").split(",")
    return frozenset(visitor_address(address.strip()) for address in [*listed, "::1"])


def connection_limit() -> int:
    """Return how many connections this process's limit on descriptors leaves room for."""
    try:
        import resource
    except ImportError:  # not a Unix system
        return 1000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 10_000
    return max(FEWEST_CONNECTIONS, soft - RESERVED_DESCRIPTORS)
