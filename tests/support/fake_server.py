"""A pagesight server without a model: real sockets, answers that tests can foresee.

    FakeServer ── FakeClassifier   the picture's bytes say what the answer is  (fake_classifier.py)
               ├─ FakeGallery      galleries in dicts, with the contract's refusals
               │    └ FakeCuration what is wrong with them, and what is settled
               └─ FakeReview       answers kept for a person, and decisions
                    └ FakeDiscovery new pages and previews

That all obey the contract is tested together with the real server: tests/contract.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from pagesight.v1.classifier_pb2_grpc import add_ClassifierServiceServicer_to_server
from pagesight.v1.gallery_pb2_grpc import add_GalleryServiceServicer_to_server
from pagesight.v1.review_pb2_grpc import add_ReviewServiceServicer_to_server
from tests.support import WAIT_S
from tests.support.fake_classifier import FakeClassifier
from tests.support.fake_gallery import FakeGallery
from tests.support.fake_review import FakeReview
from tests.support.refusals import label_refusal, normal


class FakeServer:
    """All services on a loopback port, for the time of a `with`.

    Args:
        port: Where to listen, as a server that comes back does. 0: a free port.
        host: Which of this machine's loopback addresses.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._host = host
        self.gallery = FakeGallery()
        self.review = FakeReview(
            lambda name, call: self.gallery._find(name, call)[1],
            lambda name: self.gallery[normal(name) or "default"],
            label_refusal,
        )
        self.classifier = FakeClassifier(
            lambda name: self.gallery[name].revision,
            lambda image, answer: self.review.keep(image, answer, self.gallery[answer.gallery]),
        )
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="fake-server")
        self._server = grpc.server(
            self._pool,
            options=[
                ("grpc.max_receive_message_length", 32 * 1024 * 1024),
                # Clients that probe more often than every five minutes are hung up otherwise.
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        add_ClassifierServiceServicer_to_server(self.classifier, self._server)
        add_GalleryServiceServicer_to_server(self.gallery, self._server)
        add_ReviewServiceServicer_to_server(self.review, self._server)
        self._health = health.HealthServicer()
        add_HealthServicer_to_server(self._health, self._server)
        self.serve(True)
        self.port = self._server.add_insecure_port(f"{host}:{port}")

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self._host}:{self.port}"

    def serve(self, serving: bool) -> None:
        """Says from now on that it serves, or not; it answers all the same."""
        status = health_pb2.HealthCheckResponse.ServingStatus.Value(
            "SERVING" if serving else "NOT_SERVING"
        )
        for service in ("ClassifierService", "GalleryService", "ReviewService"):
            self._health.set(f"pagesight.v1.{service}", status)

    def stop(self) -> None:
        """Stops at once; calls under way end as UNAVAILABLE or CANCELLED."""
        self.classifier.release()
        self._server.stop(None).wait(WAIT_S)
        self._pool.shutdown(wait=True)

    def __enter__(self) -> FakeServer:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
