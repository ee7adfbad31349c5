"""Where the servers are and how a channel to them is opened; the same for both clients.

    "a:1", "b:2" or connections=N ──> a channel each, as one (`_spread`) ─┐
    "dns:///name:1" ──> gRPC resolves the name ──────────────────────────┴──> balanced by health
    "a:1" ──> one connection, whatever the server says of its health

Everything that belongs to the connection and not to one call has its place here:
limits, keepalive, credentials, and what every call carries. Retries are `_retry`'s: gRPC's
own know nothing of google.rpc.RetryInfo.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import grpc

from pagesight import _trace
from pagesight._environment import (
    check_gevent,
    check_no_gevent,
    host_of,
    is_loopback,
    proxy_of,
    to_connect,
)
from pagesight._errors import (
    CallCancelledError,
    DeadlineExceededError,
    PagesightError,
    UnavailableError,
    extend,
    from_call,
)
from pagesight._requests import MAX_SEND_BYTES
from pagesight._retry import DEFAULT_RETRY, DEFAULT_RETRY_FOR_S, Retries, RetryPolicy
from pagesight._security import TlsConfig, check_token, tls_mistake
from pagesight._spread import OWN_CONNECTION, AsyncSpreadChannel, SpreadChannel

MAX_RECEIVE_BYTES = 64 * 1024 * 1024
"""A listing of a thousand images, or candidates with all their lines, is below 2 MiB."""

PING_TIMEOUT_MS = 20_000
"""How long a probed connection may stay silent. gRPC has two settings for it: one bounds how long
bytes stay unacknowledged; the other, 60 s unless set, how long a probe stays unanswered."""

SHORTEST_PING_TIMEOUT_MS = 5_000
"""No shorter silence than this one is taken for the end of a server, however often it is probed."""

ANSWER_GRACE_S = 1.0
"""How much longer than a screenshot's own budget the client waits, so that it is the
server that says where the budget went."""

MIN_KEEPALIVE_S = 10.0
"""What a pagesight server of default settings allows: twice its `min_ping_interval_seconds`."""

DEFAULT_KEEPALIVE_S = 300.0
"""What every gRPC server allows."""

BALANCED: Sequence[tuple[str, object]] = (
    (
        "grpc.service_config",
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                # gRPC takes a server that does not offer grpc.health.v1 for healthy.
                "healthCheckConfig": {"serviceName": "pagesight.v1.ClassifierService"},
            }
        ),
    ),
    # An idle channel would stay where it is, and not know the health of its servers.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    # Names of replicas change while they are replaced; gRPC's own is every 30 s at most.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
)
"""Has gRPC send calls to all servers of a name in turn, of which it follows the health."""

_TOO_MANY_PINGS = re.compile("too.many.pings", re.IGNORECASE)

ChannelOptions = Sequence[tuple[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The address of a server, or of several alike, and how to talk to it."""

    address: str
    """"host:port", or any name that gRPC resolves; of several servers, separated by commas."""
    timeout_s: float
    """Longest wait for the answer to one call; on a stream, for the next answer."""
    credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)
    """None: no TLS, unless `tls` is given."""
    tls: TlsConfig | None = None
    token: str | None = field(default=None, repr=False)
    """Sent with every call."""
    retry_for_s: float = DEFAULT_RETRY_FOR_S
    retry: RetryPolicy = DEFAULT_RETRY
    keepalive_s: float | None = None
    """How often a silent connection with calls on it is probed. None: as the servers allow."""
    use_proxy: bool = True
    """Whether a proxy of the environment is gone through, to other machines."""
    options: ChannelOptions = ()
    """gRPC channel arguments that override or add to ours."""
    connections: int = 1
    """Connections to each address that calls take turns at."""
    retries: Retries = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not all(self.addresses):
            raise ValueError('address is empty; write "host:port", such as "127.0.0.1:50051"')
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s}")
        if not self.retry_for_s >= 0:
            raise ValueError(f"retry_for_s must be at least 0, got {self.retry_for_s}")
        if self.keepalive_s is not None and not self.keepalive_s > 0:
            raise ValueError(f"keepalive_s must be above 0, got {self.keepalive_s}")
        if not self.connections >= 1:
            raise ValueError(f"connections must be at least 1, got {self.connections}")
        if self.tls is not None and self.credentials is not None:
            raise ValueError("give tls or credentials, not both")
        if self.token is not None:
            encrypted = self.tls is not None or self.credentials is not None
            for address in self.addresses:
                check_token(self.token, address, encrypted=encrypted)
        if self.tls is not None:
            self.tls.credentials()  # a file that cannot be used is told now, not by the first call
        object.__setattr__(self, "retries", Retries(self.retry, self.retry_for_s))

    @property
    def addresses(self) -> list[str]:
        """Yields each of the addresses."""
        return [address.strip() for address in self.address.split(",")]

    @property
    def is_balanced(self) -> bool:
        """Whether there may be several servers, or several connections to one."""
        return self.connections > 1 or len(self.addresses) > 1 or self.is_name

    @property
    def is_name(self) -> bool:
        """Whether gRPC finds the servers of a name: not of "host:port", of which it takes one."""
        return self.address.startswith("dns:")

    @property
    def _probes_every_s(self) -> float:
        if self.keepalive_s is not None:
            return self.keepalive_s
        # A server that stands still is known by nothing else, and others could answer.
        several = len(self.addresses) > 1 or self.is_name
        return MIN_KEEPALIVE_S if several else DEFAULT_KEEPALIVE_S

    def count_servers(self) -> int:
        """Returns how many addresses the name has, over which a stream is spread; 1 without one."""
        if not self.is_name or len(self.addresses) > 1:
            return 1
        host = host_of(self.address)
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return 1  # which gRPC finds out too, and says
        return len({address for *_, address in found})

    def connect(self) -> grpc.Channel:
        """Opens a channel; the connection itself is made by the first call.

        Raises:
            RuntimeError: gevent has patched the process and gRPC was not told.
        """
        check_gevent()
        if len(each := self.each()) > 1:
            return SpreadChannel([one.connect() for one in each])
        options, credentials = each[0]._channel_options(), self._credentials()
        if credentials is None:
            return grpc.insecure_channel(to_connect(self.address), options=options)
        return grpc.secure_channel(to_connect(self.address), credentials, options=options)

    def connect_async(self) -> grpc.aio.Channel:
        """Opens a channel of the running event loop.

        Raises:
            RuntimeError: gevent has patched the process.
        """
        check_no_gevent()
        if len(each := self.each()) > 1:
            return AsyncSpreadChannel([one.connect_async() for one in each])
        options, credentials = each[0]._channel_options(), self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(to_connect(self.address), options=options)
        return grpc.aio.secure_channel(to_connect(self.address), credentials, options=options)

    def each(self) -> list[Endpoint]:
        """Returns an endpoint for each connection, in the order of a spread channel's places."""
        options = (
            *(BALANCED if self.is_balanced else ()),
            *((OWN_CONNECTION,) if self.connections > 1 else ()),
            *self.options,
        )
        each = [
            replace(
                self,
                address=address,
                connections=1,
                keepalive_s=self._probes_every_s,
                options=options,
            )
            for address in self.addresses
        ]
        return each * self.connections

    def _credentials(self) -> grpc.ChannelCredentials | None:
        return self.credentials if self.tls is None else self.tls.credentials()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns what a call carries beside its messages: who asks, and in which trace."""
        sent = []
        if self.token is not None:
            sent.append(("authorization", f"Bearer {self.token}"))
        if traceparent := _trace.traceparent():
            sent.append(("traceparent", traceparent))
        return tuple(sent)

    def answer_timeout_s(self, deadline_ms: int | None) -> float:
        """Returns how long to wait for a screenshot with such a budget of its own."""
        if not deadline_ms:
            return self.timeout_s
        return min(self.timeout_s, deadline_ms / 1000 + ANSWER_GRACE_S)

    def error(self, error: grpc.RpcError) -> PagesightError:
        """Turns what a call to this server raised into an error of ours."""
        found = from_call(error, self.address)
        # Some calls of a server that stops end as CANCELLED by it (measured: an enrolment under way
        # when a drain ended); these two are what gRPC says of this side.
        if isinstance(found, CallCancelledError):
            if found.message.startswith("Channel closed"):
                return CallCancelledError("the client was closed")
            if found.message.startswith("Locally cancelled"):
                return found
            return UnavailableError(f"{self.address} gave the call up, as a server that stops does")
        if type(found) is not UnavailableError or found.reason:
            return found
        if _TOO_MANY_PINGS.search(found.message):
            return UnavailableError(
                f"{self.address} hung up: keepalive_s={self._probes_every_s:g} probes it more "
                f"often than it allows; a pagesight server allows {MIN_KEEPALIVE_S:g} unless "
                "configured otherwise, other gRPC servers 300",
                reason="TOO_MANY_PINGS",
            )
        encrypted = self.tls is not None or self.credentials is not None
        mistake = tls_mistake(error.details() or "", self.tls, encrypted=encrypted)
        if mistake.words:
            found = UnavailableError(f"{self.address}: {mistake.words}", reason="TLS_FAILED")
            found.is_final = mistake.is_certain
        proxies = (proxy_of(one, os.environ) for one in self.addresses if self._uses_proxy(one))
        proxy = next(filter(None, proxies), None)
        if proxy is not None:
            extend(
                found,
                f"; the way there leads through the proxy {proxy.where} of the environment "
                f"variable {proxy.variable}: where it must not, list the host in no_proxy or say "
                "use_proxy=False",
            )
        return found

    def late(self) -> DeadlineExceededError:
        """Returns the error of a screenshot that was waited for in vain."""
        return DeadlineExceededError(f"no answer from {self.address} for {self.timeout_s:g} s")

    def _channel_options(self) -> list[tuple[str, object]]:
        keepalive_ms = round(1000 * self._probes_every_s)
        ping_timeout_ms = max(SHORTEST_PING_TIMEOUT_MS, min(keepalive_ms, PING_TIMEOUT_MS))
        ours: dict[str, object] = {
            "grpc.max_send_message_length": MAX_SEND_BYTES,
            "grpc.max_receive_message_length": MAX_RECEIVE_BYTES,
            # Finds a peer that vanished without a word. A stock gRPC server takes
            # pings more often than every five minutes for an attack and hangs up.
            "grpc.keepalive_time_ms": keepalive_ms,
            # gRPC's own limit: after two pings without data, one a minute.
            "grpc.http2.max_pings_without_data": 0,
            "grpc.keepalive_timeout_ms": ping_timeout_ms,
            "grpc.http2.ping_timeout_ms": ping_timeout_ms,
            # Back on the line soon after a server's restart; gRPC's own 2 minutes
            # are for crowds of clients larger than ours.
            "grpc.max_reconnect_backoff_ms": 5_000,
        }
        if self.tls is not None and self.tls.server_name:
            ours["grpc.ssl_target_name_override"] = self.tls.server_name
        if not self._uses_proxy(self.address):
            ours["grpc.enable_http_proxy"] = 0
        return list((ours | dict(self.options)).items())

    def _uses_proxy(self, address: str) -> bool:
        # A proxy of the environment cannot know this machine's loopback.
        ours = int(self.use_proxy and not is_loopback(address))
        return bool(dict(self.options).get("grpc.enable_http_proxy", ours))
