"""A line in the log for every change of a gallery, whoever makes it.

    change of this server ──store.on_change──> token, author, address, what, revision
    change of another process ──history, looked at now and then──> author, what, revision
    change of another process of this server, which writes it ──has_line──> nothing
    finding settled or unsettled ──────────> token, author, address, keys
    clusters dismissed ────────────────────> token, author, address, keys
    decisions, a kept picture read, a picture seen whole ──> token, reviewer, address, which

A change is told in the thread that made it, so a caller who is gone by then leaves a line too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from pagesight_server.common.errors import StoreAwayError
from pagesight_server.gallery import Applied, Change, Gallery, Revision
from pagesight_server.service.auth import CALLER, PEER

log = logging.getLogger("pagesight_server.audit")

PAGE = 100
"""Revisions read at a time."""


def settled(what: str, gallery: str, keys: Sequence[str], author: str = "") -> None:
    """Tells that findings were settled or unsettled, which makes no revision."""
    log.info(
        "gallery %r: findings %s by %r (author %r) from %s: %s",
        gallery,
        what,
        CALLER.get() or "anybody",
        author,
        PEER.get() or "here",
        ", ".join(keys),
    )


def decided(what: str, gallery: str, count: int, reviewers: Iterable[str] = ()) -> None:
    """Tells that decisions of reviewers were recorded or withdrawn, and not what they say."""
    log.info(
        "gallery %r: %d decisions %s by %r (reviewers %s) from %s",
        gallery,
        count,
        what,
        CALLER.get() or "anybody",
        ", ".join(map(repr, sorted(reviewers))) or "not named",
        PEER.get() or "here",
    )


def dismissed(gallery: str, keys: Sequence[str], author: str = "") -> None:
    """Tells that clusters were dismissed, which makes no revision."""
    log.info(
        "gallery %r: clusters dismissed by %r (author %r) from %s: %s",
        gallery,
        CALLER.get() or "anybody",
        author,
        PEER.get() or "here",
        ", ".join(keys),
    )


def kept_image_read(gallery: str, image_id: str, max_side_px: int) -> None:
    """Tells that the picture of a kept answer was read, which is a caller's screenshot."""
    log.info(
        "gallery %r: kept picture read by %r from %s, %s: %s",
        gallery,
        CALLER.get() or "anybody",
        PEER.get() or "here",
        f"at most {max_side_px} pixels a side" if max_side_px else "as received",
        image_id,
    )


def revealed(gallery: str, image_id: str, reviewer: str) -> None:
    """Tells that a person saw a picture whole, with the digits that were masked before."""
    log.info(
        "gallery %r: picture revealed by %r (reviewer %r) from %s: %s",
        gallery,
        CALLER.get() or "anybody",
        reviewer,
        PEER.get() or "here",
        image_id,
    )


class Audit:
    """Tells of the changes of a store from now on; earlier ones are in its history.

    Args:
        store: Whose changes.
        on_own: Called with gallery and revision of each change of this process, in the thread that
            made it. None: `has_line` of this one, as it is for a server of one process.
    """

    def __init__(self, store: Gallery, on_own: Callable[[str, int], None] | None = None) -> None:
        self._store = store
        self._on_own = on_own or self.has_line
        self._told = store.last_revisions()
        """By gallery: up to where each revision has its line."""
        self._looked = dict(self._told)
        """By gallery: the revision at the last look."""
        self._own: set[tuple[str, int]] = set()
        """Told when they were made; forgotten once the history was read so far."""
        store.on_change = self._made

    async def follow(self, interval_s: float) -> None:
        """Looks at the history for ever."""
        readable = True
        while True:
            await asyncio.sleep(interval_s)
            try:
                await asyncio.to_thread(self.look)
                readable = True
            except StoreAwayError:
                pass  # the registry tells of it
            except Exception:
                if readable:
                    log.exception("cannot read the history of the store; looking again and again")
                readable = False

    def look(self) -> None:
        """Tells of what other processes had changed by the last look."""
        for name, revision in self._store.last_revisions().items():
            # What came since may be ours, a moment before it is told.
            settled, told = self._looked.get(name, 0), self._told.get(name, 0)
            for made in self._since(name, told) if settled > told else ():
                if made.revision > settled:
                    break
                if (name, made.revision) not in self._own:
                    log.info(
                        "gallery %r %s by another process (author %r): revision %d, %s",
                        name,
                        made.kind,
                        made.author,
                        made.revision,
                        made.summary,
                    )
                self._own.discard((name, made.revision))
                self._told[name] = made.revision
            self._looked[name] = revision

    def has_line(self, gallery: str, revision: int) -> None:
        """Notes that a change has its line, so that the history is not read for it."""
        self._own.add((gallery, revision))

    def _since(self, name: str, revision: int) -> list[Revision]:
        """The revisions after one, oldest first."""
        revisions: list[Revision] = []
        before: int | None = None
        while True:
            page = self._store.history(name, before=before, limit=PAGE, deleted=True)
            revisions += [made for made in page if made.revision > revision]
            if len(page) < PAGE or page[-1].revision <= revision:
                return revisions[::-1]
            before = page[-1].revision

    def _made(self, kind: str, change: Change, applied: Applied) -> None:
        self._on_own(change.gallery, applied.revision)
        log.info(
            "gallery %r %s by %r (author %r) from %s: revision %d, %s",
            change.gallery,
            kind,
            CALLER.get() or "anybody",
            change.author,
            PEER.get() or "here",
            applied.revision,
            ", ".join(f"{count} {what}" for what, count in applied.counts.items()),
        )
