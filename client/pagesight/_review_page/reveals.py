"""Which pictures the reviewer saw with their digits, as the server's audit log has it.

asked for with `d`, or all with --show-digits ──> noted ──> shown
└─ cannot be noted ──> stay masked
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from pagesight._client import Client


class Reveals:
    """Notes pictures before their digits are shown; safe to use from many threads."""

    def __init__(self, client: Client, gallery: str, reviewer: str) -> None:
        self._client = client
        self._gallery = gallery
        self._reviewer = reviewer
        self._lock = threading.Lock()
        self._noted: set[str] = set()

    def note(self, image_ids: Iterable[str]) -> list[str]:
        """Has the server note pictures, each once; returns those that were not noted before.

        Raises:
            PagesightError: One could not be noted: it is not to be shown.
        """
        new = []
        for image_id in image_ids:
            if not self.noted(image_id):
                self._client.record_reveal(image_id, gallery=self._gallery, reviewer=self._reviewer)
                new.append(image_id)
                with self._lock:
                    self._noted.add(image_id)
        return new

    def noted(self, image_id: str) -> bool:
        """Whether the server noted a picture."""
        with self._lock:
            return image_id in self._noted
