"""A channel that is open, and the stubs of the services that are called through it."""

from __future__ import annotations

import os
from typing import NamedTuple

import grpc

from pagesight._spread import Places, places_of
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub
from pagesight.v1.gallery_pb2_grpc import GalleryServiceStub
from pagesight.v1.review_pb2_grpc import ReviewServiceStub


class Opened(NamedTuple):
    """Holds a channel and the stubs that call through it."""

    process: int
    """Which one opened it."""
    channel: grpc.Channel
    places: Places
    """Its connections."""
    classifier: ClassifierServiceStub
    gallery: GalleryServiceStub
    review: ReviewServiceStub

    @classmethod
    def of(cls, channel: grpc.Channel) -> Opened:
        """Makes the stubs of a channel that this process has opened."""
        classifier, gallery = ClassifierServiceStub(channel), GalleryServiceStub(channel)
        review = ReviewServiceStub(channel)
        return cls(os.getpid(), channel, places_of(channel), classifier, gallery, review)
