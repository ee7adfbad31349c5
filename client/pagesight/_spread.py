"""Several connections in place of one: calls take turns at those that can take one.

    stub ──call──> Turns ──> channel 1 │ channel 2 │ ... N, each with a connection of its own
                     ^           └─ state ──> Places: whose turn it is, and who is told of changes

gRPC balances over the addresses of one name, but knows no list of names, and a connection ends at
one process of a server, however many there are behind its port. So each has a channel of its own,
in which gRPC follows the health of its server: one that does not serve is not READY, like one that
is away, and has no turn. A connection that breaks is made anew by gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc

OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
"""Channels of one process with the same address and arguments share a connection by default."""

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

LONGEST_WAIT_S = 30.0
"""Attempts to connect end after 20 s, unless the caller's channel arguments say otherwise."""

READY = grpc.ChannelConnectivity.READY
FAILING = grpc.ChannelConnectivity.TRANSIENT_FAILURE
SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN


class Places:
    """Which of several connections can take a call; for any thread.

    Args:
        count: How many there are. A single one is never asked for its state: it has every turn.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._states = [grpc.ChannelConnectivity.IDLE] * count
        self._listeners: dict[object, Callable[[], object]] = {}
        # Counted by kind: calls between two streams do not bring both to one connection.
        self._next = {kind: itertools.count() for kind in _KINDS}

    def __len__(self) -> int:
        return len(self._states)

    def note(self, place: int, state: grpc.ChannelConnectivity) -> None:
        """Notes the state of a connection, and tells those who listen."""
        with self._lock:
            self._states[place] = state
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def close(self) -> None:
        """Notes that there is no connection any more, and tells those who listen."""
        for place in range(len(self)):
            self.note(place, SHUTDOWN)

    def is_ready(self, place: int) -> bool:
        """Tells whether a connection takes calls now, as far as is known."""
        return len(self._states) == 1 or self._states[place] is READY

    def state(self) -> grpc.ChannelConnectivity:
        """Returns the state of all together: READY if one is, failing if none can be soon."""
        states = set(self._states)
        if READY in states:
            return READY
        if states <= {FAILING, SHUTDOWN}:
            return SHUTDOWN if states == {SHUTDOWN} else FAILING
        return grpc.ChannelConnectivity.CONNECTING

    def is_settled(self) -> bool:
        """Tells whether waiting for a connection that can take a call is of no more use."""
        return len(self._states) == 1 or self.state() is not grpc.ChannelConnectivity.CONNECTING

    def turn(self, kind: str) -> int:
        """Returns whose turn it is: of those that take calls, or of all where none does."""
        every = range(len(self._states))
        turns = [place for place in every if self.is_ready(place)] or every
        return turns[next(self._next[kind]) % len(turns)]

    def listen(self, key: object, listener: Callable[[], object]) -> None:
        """Has a listener called at every change, from any thread, until `unlisten`."""
        with self._lock:
            self._listeners[key] = listener

    def unlisten(self, key: object) -> None:
        """Stops calling it when the servers change."""
        with self._lock:
            self._listeners.pop(key, None)

    def wait(self, timeout_s: float) -> None:
        """Waits in a thread until a call can be made, or none can be for now."""
        if self.is_settled():
            return
        settled = threading.Event()

        def look() -> None:
            if self.is_settled():
                settled.set()

        self.listen(settled, look)
        try:
            look()
            settled.wait(min(timeout_s, LONGEST_WAIT_S))
        finally:
            self.unlisten(settled)

    async def wait_async(self, timeout_s: float) -> None:
        """Waits on an event loop, as `wait` does in a thread."""
        if self.is_settled():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(timeout_s, LONGEST_WAIT_S)):
                while not self.is_settled():
                    await self.changed(self.state())

    async def changed(self, state: grpc.ChannelConnectivity) -> None:
        """Waits on an event loop until the state of all together is another one."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        self.listen(news, partial(loop.call_soon_threadsafe, news.set))
        try:
            while self.state() is state:
                news.clear()
                await news.wait()
        finally:
            self.unlisten(news)


def places_of(channel: Any) -> Places:
    """Returns what is known of the connections of a channel; of a single one that is nothing."""
    return channel.places if isinstance(channel, _Methods) else Places(1)


def method_at(method: Any, place: int) -> Any:
    """Returns a method of a stub over one of its connections."""
    return method.methods[place] if isinstance(method, Turns) else method


class Turns:
    """One method of a service, over each connection in turn; a call may be made from any thread.

    Args:
        methods: The method over each connection.
        turn: Returns whose turn it is. Shared by all stubs: an `AsyncClient` makes one for each
            call.
    """

    def __init__(self, methods: Sequence[Callable[..., Any]], turn: Callable[[], int]) -> None:
        self.methods = methods
        self._turn = turn

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Makes the call over the next connection."""
        return self.methods[self._turn()](*arguments, **options)


class _Methods:
    """What stubs ask a channel for."""

    def __init__(self, channels: Sequence[Any]) -> None:
        self._channels = channels
        self.places = Places(len(channels))
        """Which of them can take calls."""

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """Makes the call that `grpc.Channel` would, over one of the channels."""
        return self._turns("unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """Makes the call that `grpc.Channel` would, over one of the channels."""
        return self._turns("unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """Makes the call that `grpc.Channel` would, over one of the channels."""
        return self._turns("stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """Makes the call that `grpc.Channel` would, over one of the channels."""
        return self._turns("stream_stream", arguments, options)

    def _turns(self, kind: str, arguments: Any, options: Any) -> Turns:
        methods = [getattr(channel, kind)(*arguments, **options) for channel in self._channels]
        return Turns(methods, partial(self.places.turn, kind))


class SpreadChannel(_Methods, grpc.Channel):
    """Several channels as one; it connects them all."""

    def __init__(self, channels: Sequence[grpc.Channel]) -> None:
        super().__init__(channels)
        for place, channel in enumerate(channels):
            channel.subscribe(partial(self.places.note, place), try_to_connect=True)

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Follows the state of all together."""
        del try_to_connect  # All are being connected.
        self.places.listen(callback, lambda: callback(self.places.state()))
        callback(self.places.state())

    def unsubscribe(self, callback: Any) -> None:
        """Stops telling it of states."""
        self.places.unlisten(callback)

    def close(self) -> None:
        """Closes all."""
        for channel in self._channels:
            channel.close()
        self.places.close()

    def __enter__(self) -> SpreadChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSpreadChannel(_Methods, grpc.aio.Channel):
    """Several channels of an event loop as one; it connects them all."""

    def __init__(self, channels: Sequence[grpc.aio.Channel]) -> None:
        super().__init__(channels)
        self._watching = [
            asyncio.ensure_future(self._watch(place, channel))
            for place, channel in enumerate(channels)
        ]

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Returns the state of all together: ready as soon as one is."""
        del try_to_connect  # All are being connected.
        return self.places.state()

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits for a change of it."""
        await self.places.changed(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until a connection is there."""
        while (state := self.places.state()) is not READY:
            await self.places.changed(state)

    async def close(self, grace: float | None = None) -> None:
        """Closes all."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for channel in self._channels:
            await channel.close(grace)
        self.places.close()

    async def _watch(self, place: int, channel: grpc.aio.Channel) -> None:
        with contextlib.suppress(grpc.aio.UsageError):  # It was closed.
            while True:
                state = channel.get_state(try_to_connect=True)
                self.places.note(place, state)
                await channel.wait_for_state_change(state)

    async def __aenter__(self) -> AsyncSpreadChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
