"""Copies of a store: made while it serves, checked before they count, put back whole.

    store ──online copy──> .FILE.new ──check──> rename ──> FILE
    FILE ──copy──> .STORE.restoring ──check, purge again, new revision──> STORE

A copy is one file without a log. Copies in a folder (`keep`) are managed: the store knows
them, lets the oldest go, and a purge reaches them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery.integrity import findings
from pagesight_server.gallery.model import Limits
from pagesight_server.gallery.store import Gallery
from pagesight_server.gallery.transaction import Edit

_SIDE_FILES = ("-wal", "-shm", "-journal")


def check(store: Gallery) -> list[str]:
    """What is wrong with an open store, one line each; see `integrity.py`."""
    with store.file.reading() as db:
        return list(findings(db))


def backup(store: Gallery, file: Path) -> None:
    """Copies a store into a file while others read and write it, and checks the copy.

    The copy is what the store held when it began. An existing file is replaced at the end.

    Raises:
        SetupError: the copy cannot be written or does not pass the check.
    """
    beside = file.with_name(f".{file.name}.new")
    try:
        _remove(beside)
        with closing(sqlite3.connect(beside)) as copy, store.file.reading() as db:
            db.backup(copy)
        _verify(beside)
        _into_place(beside, file)
    except (sqlite3.Error, OSError) as error:
        raise SetupError(f"the backup {file} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            _remove(beside)


def backup_into(store: Gallery, folder: Path, *, keep: int) -> Path:
    """Makes a managed backup in a folder and lets the oldest beyond `keep` go.

    Raises:
        SetupError: as `backup`.
    """
    made_at_ms = store.now_ms()
    stamp = datetime.fromtimestamp(made_at_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    file = (folder / f"{store.path.stem}-{stamp}Z.db").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{folder} is no folder for backups: {error.strerror}") from error
    # Known before it exists: a purge that comes in between must not miss it.
    _note(store, file, made_at_ms)
    try:
        backup(store, file)
    except BaseException:
        _forget(store, [file])
        raise
    mine = [known for known in managed(store) if known.parent == file.parent]
    old = mine[: max(0, len(mine) - keep)]
    for known in old:
        _remove(known)
    _forget(store, old)
    return file


def purge(
    store: Gallery, image_ids: Sequence[str], *, author: str, forget_missing: bool = False
) -> tuple[dict[str, int], list[Path]]:
    """Purges pictures from a store and from its managed backups.

    Returns:
        The new revision by gallery, and the backups that were rewritten.

    Raises:
        NotFoundError: the store never had one of them; nothing is changed.
        SetupError: a managed backup is not where it was; nothing is changed.
        StorageError: a file could not be rewritten: run it again.
    """
    known = managed(store)
    missing = [file for file in known if not file.is_file()]
    if missing and not forget_missing:
        raise SetupError(
            f"nothing was purged: the backups {', '.join(map(str, missing))} are not there. Bring "
            "them back, or say --forget-missing if they were deleted"
        )
    done = store.purge(image_ids, author=author)
    _forget(store, missing)
    for folder in {file.parent for file in known if file not in missing}:
        # What a backup that was killed left behind.
        for half in folder.glob(f".{store.path.stem}-*.db.new*"):
            half.unlink()
    rewritten = []
    for file in known:
        if file in missing:
            continue
        with _opened(file) as copy:
            if mine := _known(copy, image_ids):
                copy.purge(mine, author=author)
                rewritten.append(file)
        _single_file(file)
    return dict(done.revisions), rewritten


def restore(file: Path, path: Path, *, author: str, force: bool = False) -> list[str]:
    """Puts a backup in the place of a store, whole or not at all, also while servers run.

    Pictures that were purged from the store since are purged from what is restored. Where a
    store is replaced, every gallery gets a revision above all that were seen, so servers follow.

    Returns:
        The pictures that were purged again.

    Raises:
        SetupError: the backup is missing or damaged, or there is a store and no `force`.
    """
    if not file.is_file():
        raise SetupError(f"no backup {file}")
    if path.exists() and not force:
        raise SetupError(f"{path} exists: name another --store, or replace it with --force")
    beside = path.with_name(f".{path.name}.restoring")
    try:
        _remove(beside)
        with closing(_read_only(file)) as source, closing(sqlite3.connect(beside)) as copy:
            source.backup(copy)
        again: list[str] = []
        with _old_store(path) as old:
            with _opened(beside) as new:
                again = _succeed(new, old, author)
            _verify(beside)
            if old is None:
                _set_aside(path)
                _into_place(beside, path)
            else:
                with closing(sqlite3.connect(beside)) as source:
                    source.backup(old.file.db)  # one transaction of the old file
        return again
    except (sqlite3.Error, OSError) as error:
        raise SetupError(f"{file} cannot be restored: {error}") from error
    finally:
        with suppress(OSError):
            _remove(beside)


def managed(store: Gallery) -> list[Path]:
    """The managed backups, oldest first."""
    with store.file.reading() as db:
        rows = db.execute("SELECT path FROM backups ORDER BY made_at_ms, path").fetchall()
    return [Path(row["path"]) for row in rows]


def _note(store: Gallery, file: Path, made_at_ms: int) -> None:
    with store.file.writing():
        store.file.db.execute("INSERT INTO backups VALUES (?, ?)", (str(file), made_at_ms))


def _forget(store: Gallery, files: Sequence[Path]) -> None:
    with store.file.writing():
        store.file.db.executemany(
            "DELETE FROM backups WHERE path = ?", [(str(file),) for file in files]
        )


def _known(store: Gallery, image_ids: Sequence[str]) -> list[str]:
    """Those of the pictures that a store holds or held."""
    with store.file.reading() as db:
        rows = db.execute("SELECT id FROM images UNION SELECT image_id FROM purged").fetchall()
    held = {row[0].hex() for row in rows}
    return [image_id for image_id in image_ids if image_id.lower() in held]


def _succeed(new: Gallery, old: Gallery | None, author: str) -> list[str]:
    """Lets what is restored follow upon what it replaces; the pictures that it purged again."""
    if old is None:
        return []
    purged = _known(new, old.purged())
    if again := sorted(set(purged) - set(new.purged())):
        new.purge(again, author=author)
    old_revisions, backups = old.last_revisions(), managed(old)
    with new.file.writing():
        db = new.file.db
        db.execute("DELETE FROM backups")
        db.executemany(
            "INSERT INTO backups VALUES (?, ?)", [(str(f), i) for i, f in enumerate(backups)]
        )
        for gallery in db.execute("SELECT * FROM galleries").fetchall():
            at = max(gallery["revision"], old_revisions.get(gallery["name"], 0))
            edit = Edit(db, gallery, author, new.now_ms(), Limits(), revision=at)
            edit.commit("restore", f"restored revision {gallery['revision']} from a backup")
    return again


@contextmanager
def _old_store(path: Path) -> Iterator[Gallery | None]:
    """The store that is replaced; None where there is none that can be opened."""
    if not path.exists():
        yield None
        return
    try:
        old = Gallery(path)
    except SetupError:
        yield None
        return
    with closing(old):
        yield old


@contextmanager
def _opened(file: Path) -> Iterator[Gallery]:
    with closing(Gallery(file)) as opened:
        yield opened


def _verify(copy: Path) -> None:
    with _opened(copy) as opened:
        problems = check(opened)
    if problems:
        raise SetupError(f"the copy has {len(problems)} faults, the first: {problems[0]}")
    _single_file(copy)


def _single_file(file: Path) -> None:
    """Gives up the log, so that the file alone is the store."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA journal_mode = DELETE")


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


def _into_place(beside: Path, file: Path) -> None:
    """Gives a file its name, once it is on the disk."""
    _sync(beside)
    beside.replace(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_aside(path: Path) -> None:
    """Keeps what cannot be opened for whoever wants to look, but not under the store's name."""
    for suffix in ("", *_SIDE_FILES):
        file = Path(f"{path}{suffix}")
        if file.exists():
            file.replace(f"{path}.damaged{suffix}")


def _remove(file: Path) -> None:
    for suffix in ("", *_SIDE_FILES):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
