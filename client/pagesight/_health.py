"""Whether a server is serving, as its grpc.health.v1 says.

That service has two messages of one field each. Protobuf's own wrappers have the same bytes on
the wire, so that the client needs neither grpcio-health-checking nor a copy of its stubs:

    HealthCheckRequest  {string service = 1}  is read as  StringValue {string value = 1}
    HealthCheckResponse {enum   status  = 1}  is read as  Int32Value  {int32  value = 1}
"""

from __future__ import annotations

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from pagesight._connection import Connection
from pagesight._errors import UnavailableError

SERVING = 1
"""`HealthCheckResponse.ServingStatus.SERVING`."""


class NotServingError(UnavailableError):
    """The server answers, and says that it is not serving: it starts, or it drains."""


def check(connection: Connection, timeout_s: float) -> None:
    """Asks how the server as a whole is; repeated for `retry_for_s` of the connection.

    Args:
        connection: The way to the server.
        timeout_s: Longest wait for the last answer, repeats included, in seconds.

    Raises:
        NotServingError: It answers, and is not serving.
        PagesightError: It cannot be asked.
    """
    method = connection._open().channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=Int32Value.FromString,
    )
    connection._call(method, StringValue(), _serving, timeout_s)


def _serving(reply: Int32Value) -> None:
    if reply.value != SERVING:
        raise NotServingError("not serving: it starts, or it drains")
