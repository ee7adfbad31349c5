"""Work that takes long, such as a discovery: it runs behind the page, which asks how far it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from pagesight._changes import Progress
from pagesight._errors import PagesightError

T = TypeVar("T")
logger = logging.getLogger("pagesight.review")


class Job(Generic[T]):
    """One call under way, in a thread of its own.

    Args:
        work: Makes the call; is given what is to be called with its progress.
    """

    def __init__(self, work: Callable[[Callable[[Progress], None]], T]) -> None:
        self.progress = Progress(done=0, total=0)
        self.result: T | None = None
        self.error = ""
        """Why it failed; empty where it did not."""
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def _run(self, work: Callable[[Callable[[Progress], None]], T]) -> None:
        try:
            self.result = work(self._note)
        except PagesightError as error:
            self.error = error.message
        except Exception:
            logger.exception("work behind the page failed")
            self.error = "it failed; the terminal of pagesight review says why"

    def _note(self, progress: Progress) -> None:
        self.progress = progress
