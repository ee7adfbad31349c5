"""Pictures at hand: the screenshots and gallery pictures of what is on the page.

The next five are fetched before they are looked at; the most recent stay in memory, and nowhere
else.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from pagesight._client import Client
from pagesight._errors import NotFoundError, UnreadableFileError
from pagesight._requests import read_image
from pagesight._review_page.model import Waiting

MAX_BYTES = 192 * 1024 * 1024
"""Pictures kept in memory: a few hundred screenshots as received."""

Size = tuple[int, int]


class Pictures:
    """Reads pictures once; safe to use from many threads."""

    def __init__(self, client: Client, gallery: str) -> None:
        self._client = client
        self._gallery = gallery
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        """Held while a label's pictures are listed."""
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._sizes: dict[str, Size] = {}
        self._labels_listed: set[tuple[str, int]] = set()

    def screenshot(self, waiting: Waiting) -> bytes:
        """Reads what waits, from its file or from the server.

        Raises:
            PagesightError: It is not there any more, or cannot be read.
        """
        return self._once(("screenshot", waiting.image_id), lambda: self._read(waiting))

    def screenshots(self, waiting: Sequence[Waiting]) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """Reads several; one that is gone takes no other with it.

        Returns:
            The bytes by image id, and of each that is not there any more what it is and why.

        Raises:
            PagesightError: The server does not answer.
        """
        read: dict[str, bytes] = {}
        gone = []
        for one in waiting:
            try:
                read[one.image_id] = self.screenshot(one)
            except (NotFoundError, UnreadableFileError) as error:
                gone.append(f"{Path(one.path).name or one.image_id[:12]}: {error.message}")
        return read, tuple(gone)

    def of_gallery(self, image_id: str) -> bytes:
        """Reads a picture of the gallery, as the server keeps it.

        Raises:
            PagesightError: The gallery lacks it, or the server keeps no pictures.
        """
        return self._once(
            ("gallery", image_id), lambda: self._client.get_image(image_id, gallery=self._gallery)
        )

    def size(self, image_id: str) -> Size | None:
        """Width and height in which boxes of a gallery picture count; None where unknown.

        The server may keep a smaller picture than the one it read.
        """
        return self._sizes.get(image_id)

    def learn_size(self, image_id: str, label: str, revision: int) -> None:
        """Asks how large the pictures of a label are, unless that of one of them is known.

        Args:
            image_id: The picture.
            label: Its label.
            revision: The label is not asked about twice at the same one.

        Raises:
            PagesightError: The server does not tell.
        """
        with self._listing:  # whoever asks meanwhile finds it known
            with self._lock:
                if image_id in self._sizes or (label, revision) in self._labels_listed:
                    return
            images = self._client.list_images(gallery=self._gallery, label=label, page_size=1_000)
            sizes = {image.image_id: (image.width_px, image.height_px) for image in images}
            with self._lock:
                self._sizes.update(sizes)
                # Not before: after a failure it must not be taken for known.
                self._labels_listed.add((label, revision))

    def _read(self, waiting: Waiting) -> bytes:
        if waiting.origin == "kept":
            return self._client.get_kept_image(waiting.image_id, gallery=self._gallery)
        if waiting.origin == "known":
            return self._client.get_image(waiting.image_id, gallery=self._gallery)
        data = read_image(Path(waiting.path))
        if hashlib.sha256(data).hexdigest() != waiting.image_id:
            raise UnreadableFileError(
                f"{waiting.path} is another picture than it was", reason="FILE_UNREADABLE"
            )
        return data

    def _once(self, name: tuple[str, str], read: Callable[[], bytes]) -> bytes:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        data = read()
        with self._lock:
            if name not in self._kept:
                self._kept[name] = data
                self._bytes += len(data)
            while self._bytes > MAX_BYTES and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest)
        return data
