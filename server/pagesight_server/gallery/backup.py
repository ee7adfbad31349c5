"""Copies of a store: made while it serves, checked before they count, put back whole.

    store ──online copy──> .FILE.new ──check──> rename ──> FILE
    FILE ──copy──> .STORE.restoring ──check, purge again, new revision──> STORE

A copy is one file without a log. Copies in a folder (`keep`) are managed: the store knows
them, lets the oldest go, and a purge reaches them.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from pagesight_server.common.errors import SetupError
from pagesight_server.common.files import make_file, make_folder
from pagesight_server.gallery.contents import IDS
from pagesight_server.gallery.integrity import findings
from pagesight_server.gallery.model import Limits
from pagesight_server.gallery.sqlite_file import SqliteDatabase, why
from pagesight_server.gallery.store import Gallery
from pagesight_server.gallery.transaction import Edit

_SIDE_FILES = ("-wal", "-shm", "-journal")


def refuse_database(name: str) -> SetupError:
    """The error of a copy of a store that is no file."""
    return SetupError(
        f"{name} is on PostgreSQL, which has backups of its own: use pg_dump or pg_basebackup, or "
        "`pagesight-server gallery copy`"
    )


def check(store: Gallery) -> list[str]:
    """What is wrong with an open store, one line each; see `integrity.py`."""
    with store.database.reading() as db:
        return list(findings(db))


def backup(store: Gallery, file: Path) -> None:
    """Copies a store into a file while others read and write it, and checks the copy.

    The copy is what the store held when it began. An existing file is replaced at the end.

    Raises:
        SetupError: the copy cannot be written or does not pass the check; or the store is no
            file.
    """
    database = _file_of(store)
    beside = _half(file)
    try:
        _remove(beside)
        make_file(beside)
        with closing(sqlite3.connect(beside)) as copy, database.reading() as db:
            try:
                db.backup(copy)
            except sqlite3.Error as error:  # of the copy or of the store: SQLite tells no more
                raise SetupError(
                    f"the backup {file} cannot be written: {why(error, beside)}"
                ) from error
        _verify(beside)
        _into_place(beside, file)
    except (sqlite3.Error, OSError) as error:
        raise SetupError(f"the backup {file} cannot be written: {why(error, beside)}") from error
    finally:
        with suppress(OSError):
            _remove(beside)


def backup_into(store: Gallery, folder: Path, *, keep: int) -> Path:
    """Makes a managed backup in a folder and lets the oldest beyond `keep` go.

    The oldest are those that were made first, whatever the clock said; the new one stays.

    Raises:
        SetupError: as `backup`.
    """
    _file_of(store)
    try:
        make_folder(folder)
    except OSError as error:
        raise SetupError(f"{folder} is no folder for backups: {why(error, folder)}") from error
    _settle(store)
    made_at_ms = store.now_ms()
    file = _unused(folder.resolve(), store, made_at_ms)
    try:
        with _being_made(file):
            # Known before it exists: a purge that comes in between must not miss it.
            with store.database.writing() as db:
                db.execute(
                    "INSERT INTO backups (path, made_at_ms, complete) VALUES (:path, :made_at, 0)",
                    {"path": str(file), "made_at": made_at_ms},
                )
            try:
                backup(store, file)
            except BaseException:
                _forget(store, [file])
                raise
            _complete(store, [file])
    except OSError as error:
        raise SetupError(f"the backup {file} cannot be written: {why(error, file)}") from error
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

    A backup that is being made meanwhile is waited for; one whose making was killed is removed.

    Returns:
        The new revision by gallery, and the backups that were rewritten.

    Raises:
        NotFoundError: the store never had one of them; nothing is changed.
        SetupError: a managed backup is not where it was; nothing is changed.
        StorageError: a file could not be rewritten: run it again.
    """
    _settle(store)
    missing = [file for file in managed(store) if not file.is_file()]
    # Half of a backup may be left where its folder cannot be reached now.
    missing += [file for file in _backups(store, complete=False) if not _is_being_made(file)]
    if missing and not forget_missing:
        raise SetupError(
            f"nothing was purged: the backups {', '.join(map(str, missing))} are not there. Bring "
            "them back, or say --forget-missing if they were deleted"
        )
    done = store.purge(image_ids, author=author)
    _forget(store, missing)
    # Whatever began before the purge holds what it purged; what begins now does not.
    _settle(store, wait=True)
    known = managed(store)
    for folder in {file.parent for file in known}:
        # What a backup that was killed left behind, of an earlier pagesight too.
        for half in folder.glob(f".{_file_of(store).path.stem}-*.db.new*"):
            if not _is_being_made(folder / half.name[1:].partition(".new")[0]):
                half.unlink(missing_ok=True)
    rewritten = []
    for file in known:
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
        make_file(beside)
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
                    source.backup(_file_of(old).db)  # one transaction of the old file
        return again
    except (sqlite3.Error, OSError) as error:
        raise SetupError(f"{file} cannot be restored: {why(error, path)}") from error
    finally:
        with suppress(OSError):
            _remove(beside)


def _file_of(store: Gallery) -> SqliteDatabase:
    if not isinstance(store.database, SqliteDatabase):
        raise refuse_database(store.database.name)
    return store.database


def managed(store: Gallery) -> list[Path]:
    """The managed backups that are complete, in the order in which they were made."""
    return _backups(store, complete=True)


def _backups(store: Gallery, *, complete: bool) -> list[Path]:
    with store.database.reading() as db:
        rows = db.execute(
            "SELECT path FROM backups WHERE complete = :complete ORDER BY number",
            {"complete": int(complete)},
        ).fetchall()
    return [Path(row["path"]) for row in rows]


def _settle(store: Gallery, *, wait: bool = False) -> None:
    """Decides on managed backups that were begun: those whose making was killed are forgotten.

    Args:
        store: Knows them.
        wait: Whether those that are being made are waited for, or left alone.
    """
    for file in _backups(store, complete=False):
        if not wait and _is_being_made(file):
            continue
        with suppress(OSError), _being_made(file):
            if file.is_file():  # killed between the last two steps, or done by now
                _complete(store, [file])
            else:
                _remove(_half(file))
                _forget(store, [file])


@contextmanager
def _being_made(file: Path) -> Iterator[None]:
    """Holds the lock of a backup while it is made; it ends with the process, however that ends."""
    path = _lock(file)
    make_file(path)
    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_being_made(file: Path) -> bool:
    try:
        with _lock(file).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _lock(file: Path) -> Path:
    return file.with_name(f".{file.name}.lock")


def _half(file: Path) -> Path:
    """What a backup is until it is complete."""
    return file.with_name(f".{file.name}.new")


def _unused(folder: Path, store: Gallery, made_at_ms: int) -> Path:
    """A name for a backup that no other has; the clock may have been set back."""
    stamp = datetime.fromtimestamp(made_at_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
    known = {*_backups(store, complete=True), *_backups(store, complete=False)}
    for number in count(1):
        again = "" if number == 1 else f"-{number}"
        file = folder / f"{_file_of(store).path.stem}-{stamp}Z{again}.db"
        if file not in known and not file.exists():
            return file
    raise AssertionError("count never ends")


def _complete(store: Gallery, files: Sequence[Path]) -> None:
    with store.database.writing() as db:
        db.executemany(
            "UPDATE backups SET complete = 1 WHERE path = :path",
            [{"path": str(file)} for file in files],
        )


def _forget(store: Gallery, files: Sequence[Path]) -> None:
    with store.database.writing() as db:
        db.executemany(
            "DELETE FROM backups WHERE path = :path", [{"path": str(file)} for file in files]
        )


def _known(store: Gallery, image_ids: Sequence[str]) -> list[str]:
    """Finds which of these pictures a store holds or held."""
    with store.database.reading() as db:
        rows = db.execute(f"{IDS} UNION SELECT image_id FROM purged").fetchall()
    held = {row["id"].hex() for row in rows}
    return [image_id for image_id in image_ids if image_id.lower() in held]


def _succeed(new: Gallery, old: Gallery | None, author: str) -> list[str]:
    """Lets what is restored follow upon what it replaces; the pictures that it purged again."""
    with new.database.writing() as db:
        # Whoever served the store that was backed up; who serves this one notes it anew.
        db.execute("DELETE FROM replicas")
    if old is None:
        return []
    purged = _known(new, old.purged())
    if again := sorted(set(purged) - set(new.purged())):
        new.purge(again, author=author)
    old_revisions = old.last_revisions()
    with old.database.reading() as old_db:
        backups = old_db.execute("SELECT * FROM backups ORDER BY number").fetchall()
    with new.database.writing() as db:
        db.execute("DELETE FROM backups")
        db.executemany(
            "INSERT INTO backups (path, made_at_ms, complete) "
            "VALUES (:path, :made_at_ms, :complete)",
            [
                {column: row[column] for column in ("path", "made_at_ms", "complete")}
                for row in backups
            ],
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
        opened.drop_damaged_calibrations()  # derived: made anew where they are missing
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
