"""How much one caller may ask for: screenshots and calls a second, and bytes a second.

    screenshot ──> token buckets of calls and of bytes ──both hold enough──> admission
                    ^ refilled by time, up to a burst   └──> RateLimitedError, come back in so long

A caller is its token; else its certificate, and where neither is asked for, the address that it
calls from. Everything is off unless set ([security] in the settings). It keeps one caller from
taking what others need for hours, where admission only makes callers take turns.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from pagesight_server.common.errors import LimitError, RateLimitedError
from pagesight_server.config_sections import SecurityConfig
from pagesight_server.service.auth import CALLER
from pagesight_server.service.codec import Context, refuse

MAX_CALLERS = 10_000
"""Callers remembered. Whoever can call from more addresses than that is not held back by this."""

_ROUNDING = 1e-9
"""Whoever waits exactly as long as told must not miss by the last bit."""


@dataclass(frozen=True, slots=True)
class _Rate:
    per_second: float
    burst: float


@dataclass(slots=True)
class _Caller:
    levels: list[float]
    """What each bucket held at `at_s`."""
    at_s: float


class CallerLimits:
    """Counts what each caller has asked for lately; for one event loop.

    Args:
        config: The rates; zero is no limit.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, config: SecurityConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls = _Rate(config.calls_per_second, config.calls_burst)
        self._bytes = _Rate(config.bytes_per_second, config.bytes_burst)
        self._clock = clock
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def spend(self, name: str, size_bytes: int = 0) -> None:
        """Takes one call of so many bytes from what a caller may ask for.

        Args:
            name: Whose; see `caller_of`.
            size_bytes: Of the encoded picture.

        Raises:
            LimitError: it would not fit a full bucket either: waiting does not help.
            RateLimitedError: the buckets hold too little; nothing was taken from them.
        """
        rates = (self._calls, self._bytes)
        if not any(rate.per_second for rate in rates):
            return
        if self._bytes.per_second and size_bytes > self._bytes.burst:
            raise LimitError(
                f"the picture has {size_bytes:,} bytes, one caller may send "
                f"{int(self._bytes.burst):,} at once: send it smaller or re-compressed"
            )
        caller = self._refilled(name)
        wait_s = 0.0
        for rate, level, amount in zip(rates, caller.levels, (1, size_bytes), strict=True):
            if rate.per_second and level + _ROUNDING < amount:
                wait_s = max(wait_s, (amount - level) / rate.per_second)
        if wait_s:
            raise RateLimitedError(
                f"this caller may ask for {self._described()}: come back later",
                retry_after_ms=math.ceil(1000 * wait_s),
            )
        caller.levels = [caller.levels[0] - 1, caller.levels[1] - size_bytes]

    def _refilled(self, name: str) -> _Caller:
        now_s = self._clock()
        rates = (self._calls, self._bytes)
        caller = self._callers.setdefault(name, _Caller([rate.burst for rate in rates], now_s))
        self._callers.move_to_end(name)
        if len(self._callers) > MAX_CALLERS:
            self._callers.popitem(last=False)
        passed_s = now_s - caller.at_s
        caller.levels = [
            min(rate.burst, level + passed_s * rate.per_second)
            for rate, level in zip(rates, caller.levels, strict=True)
        ]
        caller.at_s = now_s
        return caller

    def _described(self) -> str:
        limits = []
        if self._calls.per_second:
            limits.append(f"{self._calls.per_second:g} calls")
        if self._bytes.per_second:
            limits.append(f"{int(self._bytes.per_second):,} bytes")
        return f"{' and '.join(limits)} a second"


def caller_of(context: Context) -> str:
    """Who makes a call: its token, else the names in its certificate, else its address.

    Neither a connection nor a stream is a caller: whoever opens a hundred is still one.
    """
    if name := CALLER.get():
        return f"token:{name}"
    if identities := context.peer_identities():
        return "certificate:" + " ".join(name.decode("utf-8", "replace") for name in identities)
    peer = context.peer()
    # A new port each connection: who reconnects is the same caller.
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


COUNTED = ("pagesight.v1.GalleryService", "pagesight.v1.ReviewService")
"""Services whose calls count one each."""


class LimitGalleryCalls(grpc.aio.ServerInterceptor):
    """Counts each call of GalleryService and ReviewService; the classifier counts screenshots."""

    def __init__(self, limits: CallerLimits) -> None:
        self._limits = limits

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler of a call."""
        handler = await continuation(handler_call_details)
        service = handler_call_details.method.strip("/").partition("/")[0]
        if handler is None or service not in COUNTED:
            return handler
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.stream_stream:
            behaviour = self._limited(handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(behaviour, *codecs)
        if handler.unary_stream:
            behaviour = self._limited(handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(behaviour, *codecs)
        return grpc.unary_unary_rpc_method_handler(self._limited(handler.unary_unary), *codecs)

    def _limited(self, behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        async def limited(request: Any, context: Context) -> Any:
            try:
                self._limits.spend(caller_of(context))
            except RateLimitedError as error:
                await refuse(context, error)
            return await behaviour(request, context)

        return limited
