"""Several connections in place of one: calls, and so streams, take turns at them.

    stub ──call──> Turns ──> channel 1 │ channel 2 │ ... N, each with a connection of its own

A connection ends at one process of a server, however many there are behind its port, and a stream
stays on its connection. So a caller with several streams needs several connections to use several
processes. One that breaks is made anew by gRPC, to whichever process takes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
"""Channels of one process with the same address and arguments share a connection by default."""


_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Turns:
    """One method of a service, over each connection in turn; a call may be made from any thread.

    Args:
        methods: The method over each connection.
        places: Whose turn it is, shared by all stubs: an `AsyncClient` makes one for each call.
    """

    def __init__(self, methods: Sequence[Callable[..., Any]], places: Iterator[int]) -> None:
        self._methods = methods
        self._places = places

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Makes the call over the next connection."""
        return self._methods[next(self._places)](*arguments, **options)


class _Methods:
    """What stubs ask a channel for."""

    def __init__(self, channels: Sequence[Any]) -> None:
        self._channels = channels
        self._places = {kind: itertools.cycle(range(len(channels))) for kind in _KINDS}
        """Turns are counted by kind: calls between two streams do not bring both to one
        connection."""

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """As `grpc.Channel` has it."""
        return self._turns("unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """As `grpc.Channel` has it."""
        return self._turns("unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """As `grpc.Channel` has it."""
        return self._turns("stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """As `grpc.Channel` has it."""
        return self._turns("stream_stream", arguments, options)

    def _turns(self, kind: str, arguments: Any, options: Any) -> Turns:
        methods = [getattr(channel, kind)(*arguments, **options) for channel in self._channels]
        return Turns(methods, self._places[kind])


class SpreadChannel(_Methods, grpc.Channel):
    """Several channels to one address, as one."""

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Follows the state of the first connection."""
        self._channels[0].subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        """No longer follows it."""
        self._channels[0].unsubscribe(callback)

    def close(self) -> None:
        """Closes all."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> SpreadChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSpreadChannel(_Methods, grpc.aio.Channel):
    """Several channels of an event loop to one address, as one."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the first connection."""
        state: grpc.ChannelConnectivity = self._channels[0].get_state(try_to_connect)
        return state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits for a change of it."""
        await self._channels[0].wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until the first connection is there."""
        await self._channels[0].channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Closes all."""
        for channel in self._channels:
            await channel.close(grace)

    async def __aenter__(self) -> AsyncSpreadChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
