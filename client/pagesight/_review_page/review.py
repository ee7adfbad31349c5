"""What one page works on: the desk, the batches, the discoveries, and the labels to choose from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pagesight._errors import NotFoundError, PagesightError
from pagesight._review_page.batch import Batches
from pagesight._review_page.desk import Desk
from pagesight._review_page.discovery import Discoveries
from pagesight._review_page.security import Secrets

LABELS_FOR_S = 20.0
"""How long the list of labels is good for."""


@dataclass(slots=True, kw_only=True)
class Review:
    """All that one page works on."""

    desk: Desk
    batches: Batches
    discoveries: Discoveries
    may_enrol: bool = True
    progress: Callable[[], tuple[int, int] | None] = lambda: None
    """How many pictures of a folder are answered, and how many there are."""
    fed: threading.Event = field(default_factory=threading.Event)
    """Set once all that there was at the start waits."""
    secrets: Secrets = field(default_factory=Secrets)
    _labels: tuple[str, ...] = ()
    _labels_at: float = 0.0
    _own_labels: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def labels(self) -> tuple[str, ...]:
        """Every label of the gallery, and those that the reviewer has used."""
        with self._lock:
            if time.monotonic() - self._labels_at > LABELS_FOR_S or not self._labels_at:
                try:
                    known = self.desk.client.get_labels(gallery=self.desk.gallery).labels
                    self._labels = tuple(one.label for one in known)
                except NotFoundError:
                    self._labels = ()
                except PagesightError as error:
                    self.desk.reach.failed(error)  # the last ones known will do
                self._labels_at = time.monotonic()
            return tuple({*self._labels, *self._own_labels})

    def use(self, label: str) -> None:
        """Notes a label that may be new."""
        with self._lock:
            self._own_labels.add(label)
