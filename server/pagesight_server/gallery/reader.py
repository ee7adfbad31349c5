"""Reading a store: any gallery at any revision, and what is kept of its pictures.

Every method sees one state of the store, whatever other threads and processes write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pagesight_server.common.errors import InvalidRequestError, NotFoundError, SetupError
from pagesight_server.common.garbage import collection_put_off
from pagesight_server.gallery import changes as changes_since
from pagesight_server.gallery import contents, queries, replicas, settlements
from pagesight_server.gallery.database import Connection, Database, Row
from pagesight_server.gallery.fingerprint import Fingerprint, fingerprint
from pagesight_server.gallery.gallery_rows import find_gallery, gallery_row
from pagesight_server.gallery.location import PostgresOptions, StoreLocation
from pagesight_server.gallery.model import (
    Applied,
    Change,
    Form,
    GalleryInfo,
    ListedImage,
    Revision,
    Settlement,
)
from pagesight_server.gallery.postgres_remains import remains
from pagesight_server.gallery.replicas import Forgetting, Replica
from pagesight_server.gallery.snapshot import (
    DEFAULT_GALLERY,
    Bundles,
    Changes,
    LabelFacts,
    Snapshot,
    normal_form,
)
from pagesight_server.gallery.sqlite_file import SqliteDatabase
from pagesight_server.gallery.text_sample import TEXTS_PER_LABEL
from pagesight_server.gallery.unfinished import refuse_incomplete
from pagesight_server.text.reading import Reading

log = logging.getLogger(__name__)


class Reader:
    """The part of `Gallery` that changes nothing.

    Args:
        location: The file, made when missing, or the address of a database.
        postgres: What the latter needs besides.
        incomplete: Whether it may be a copy that is not complete.
        migrates: False: it is neither made nor brought forward from an older schema.
        texts_per_label: Pictures of a label at most whose text a snapshot holds; None: all.

    Raises:
        SetupError: it is no store, or one of a newer pagesight, or such a copy.
        OlderStoreError: it would have to be made or brought forward.
    """

    def __init__(
        self,
        location: StoreLocation,
        postgres: PostgresOptions,
        *,
        incomplete: bool = False,
        migrates: bool = True,
        texts_per_label: int | None = TEXTS_PER_LABEL,
    ) -> None:
        self.location = location
        self.texts_per_label = texts_per_label
        self.database: Database = open_database(location, postgres, migrates=migrates)
        try:
            if not incomplete:
                with self.database.reading() as db:
                    refuse_incomplete(db, self.database.name)
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Closes the store; it can be opened again."""
        self.database.close()

    def listen(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Calls a function, in another thread, soon after a revision was made elsewhere.

        A hint that may be lost, and that a SQLite file never gives: poll `revisions` as well.

        Returns:
            Ends it.
        """
        return self.database.listen(heard)

    def revisions(self) -> dict[str, int]:
        """The revision of each gallery, by name. Cheap: meant to be polled."""
        with self.database.reading() as db:
            rows = db.execute("SELECT name, revision FROM galleries WHERE deleted = 0").fetchall()
        return {row["name"]: row["revision"] for row in rows}

    def last_revisions(self) -> dict[str, int]:
        """Returns what `revisions` does, and the last revision of each gallery that was deleted."""
        with self.database.reading() as db:
            rows = db.execute("SELECT name, revision FROM galleries").fetchall()
        return {row["name"]: row["revision"] for row in rows}

    def galleries(self, *, after: str = "", limit: int = 100) -> list[GalleryInfo]:
        """The galleries by name, those after a name; at most `limit`."""
        with self.database.reading() as db:
            return queries.galleries(db, after=after, limit=limit)

    def gallery(self, name: str) -> GalleryInfo:
        """Describes one gallery at its present revision.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            return queries.gallery(db, gallery_row(db, name))

    def snapshot(
        self, name: str = DEFAULT_GALLERY, revision: int | None = None, *, rounded: bool = False
    ) -> Snapshot:
        """A gallery at a revision, the present one unless told otherwise.

        Of a label with more than `texts_per_label` pictures it holds the texts of a sample.

        Args:
            name: The gallery.
            revision: The present one when None.
            rounded: Leaves the vectors as they are stored, for an index to be made of them.

        Raises:
            NotFoundError: no such gallery or revision.
        """
        with collection_put_off(), self.database.reading() as db:
            gallery, at = _at(db, name, revision)
            return queries.snapshot(
                db,
                gallery,
                at,
                rounded=rounded,
                texts_per_label=self.texts_per_label,
                read_texts=partial(self.texts, gallery["ocr_bundle"]),
            )

    def texts(self, ocr_bundle: str, image_ids: Sequence[str]) -> dict[str, Reading]:
        """The texts of some pictures, by id, as a bundle read them.

        Those that have changed on the disk, were purged or were never stored lack.
        """
        with self.database.reading() as db:
            return queries.texts(db, ocr_bundle, list(dict.fromkeys(image_ids)))

    def changes(self, name: str, revision: int) -> Changes | None:
        """What became of a gallery since a revision; None when it must be read whole.

        Raises:
            NotFoundError: no such gallery or revision.
        """
        with self.database.reading() as db:
            gallery, at = _at(db, name, None)
            if at < revision:
                return None
            return changes_since.changes(db, gallery, revision, at)

    def images(
        self,
        name: str,
        *,
        revision: int | None = None,
        label: str | None = None,
        after: tuple[str, str] = ("", ""),
        limit: int = 100,
    ) -> tuple[int, list[ListedImage]]:
        """Pictures of a gallery at a revision, by label and id; says which revision that is.

        Args:
            name: The gallery.
            revision: The present one when None.
            label: Only pictures of this label, in whatever normal form it is spelt.
            after: Label and id of the last picture that is known already.
            limit: At most so many.

        Raises:
            NotFoundError: no such gallery or revision.
        """
        with self.database.reading() as db:
            row, at = _at(db, name, revision)
            wanted = None if label is None else normal_form(label)
            return at, queries.images(db, row, at, label=wanted, after=after, limit=limit)

    def labels(self, name: str) -> tuple[int, dict[str, int], dict[str, LabelFacts]]:
        """The revision, how many pictures each label has, and what the operator knows of it."""
        with self.database.reading() as db:
            row, at = _at(db, name, None)
            return at, queries.label_counts(db, row, at), queries.facts(db, row, at)

    def history(
        self, name: str, *, before: int | None = None, limit: int = 100, deleted: bool = False
    ) -> list[Revision]:
        """Changes of a gallery, newest first.

        Args:
            name: The gallery.
            before: Only those before this revision.
            limit: At most so many.
            deleted: Whether the history of a deleted gallery may be read too.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            row = (find_gallery(db, name, deleted=True) if deleted else None) or gallery_row(
                db, name
            )
            last = row["revision"] + 1 if before is None else before
            return queries.history(db, row, before=last, limit=limit)

    def settlements(self, name: str) -> Mapping[str, Settlement]:
        """What is settled in a gallery, by the key of the finding.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            return settlements.settlements(db, gallery_row(db, name)["id"])

    def answered(self, change: Change, kind: str) -> Applied | None:
        """What a change with this request_id was told before; None when it is new.

        Raises:
            InvalidRequestError: the request_id was used for another kind of change.
        """
        with self.database.reading() as db:
            return answer_to(db, change, kind)

    def has_content(self, image_id: str, bundles: Bundles) -> bool:
        """Whether embedding and text of a picture are stored for these bundles.

        Raises:
            PurgedError: the picture was purged.
        """
        with self.database.reading() as db:
            return contents.has(db, image_id, bundles)

    def has_any_content(self, image_ids: Iterable[str], bundles: Bundles) -> bool:
        """Whether sound embedding and text of any of these pictures are stored for these bundles.

        Such as of those that a snapshot left out as damaged: making them anew is no revision.
        """
        with self.database.reading() as db:
            return contents.has_any(db, image_ids, bundles)

    def image_bytes(self, image_id: str) -> bytes | None:
        """The bytes of a picture as they are kept; None where they are not.

        Raises:
            NotFoundError: no such picture.
        """
        with self.database.reading() as db:
            return contents.kept_bytes(db, image_id)

    def has_image(self, name: str, image_id: str) -> bool:
        """Whether a gallery holds a picture now; one gallery's pictures are not another's.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            row, at = _at(db, name, None)
            return queries.has_image(db, row, at, image_id)

    def full_ids(self, beginnings: Sequence[str]) -> list[str]:
        """The ids of pictures that the store holds or purged, by their first characters.

        Raises:
            NotFoundError: no picture begins so.
            InvalidRequestError: several do, or it is no beginning of an id.
        """
        with self.database.reading() as db:
            return [contents.full_id(db, beginning) for beginning in beginnings]

    def purged(self) -> list[str]:
        """Lists the pictures that were purged, by their ids."""
        with self.database.reading() as db:
            rows = db.execute("SELECT image_id FROM purged ORDER BY image_id").fetchall()
        return [row["image_id"].hex() for row in rows]

    def fingerprint(self) -> Fingerprint:
        """The digest of all that the store holds: a copy has the same, whichever database it is."""
        with self.database.reading() as db:
            return fingerprint(db)

    def remains(self) -> list[str]:
        """Where the database may keep what was purged, beside its tables; one line each."""
        with self.database.reading() as db:
            return remains(db) if db.dialect.name == "postgresql" else []

    def forgetting(self, image_ids: Sequence[str]) -> Forgetting:
        """Which of the processes that serve this store have forgotten pictures that were purged."""
        with self.database.reading() as db:
            return replicas.forgetting(db, image_ids)

    def replicas(self) -> list[Replica]:
        """The processes that serve this store, by their last notes."""
        with self.database.reading() as db:
            return replicas.replicas(db)

    def unseen(
        self, name: str, bundles: Bundles, *, now_only: bool = False
    ) -> list[tuple[str, Form]]:
        """Pictures that other bundles have not seen or read, and in what form they are kept.

        Args:
            name: The gallery.
            bundles: What is asked for.
            now_only: Without those that were removed.
        """
        with self.database.reading() as db:
            row = gallery_row(db, name)
            return contents.without(db, row["id"], bundles, now_only=now_only)


def open_database(
    location: StoreLocation, postgres: PostgresOptions, *, migrates: bool = True
) -> Database:
    """Opens the database of a store; errors as `Reader`."""
    if isinstance(location, Path):
        return SqliteDatabase(location, migrates=migrates)
    try:
        from pagesight_server.gallery.postgres import PostgresDatabase
    except ImportError as error:
        raise SetupError(
            f"the store {location} needs psycopg: pip install 'pagesight[postgres]' ({error})"
        ) from error
    return PostgresDatabase(location, postgres, migrates=migrates)


def answer_to(db: Connection, change: Change, kind: str) -> Applied | None:
    """Returns what `Reader.answered` does, in a transaction."""
    if not change.request_id:
        return None
    row = queries.answer(db, normal_form(change.gallery), change.request_id)
    if row is None:
        return None
    if row["kind"] != kind:
        raise InvalidRequestError(
            f"request_id {change.request_id!r} was used for a change of kind {row['kind']}"
        )
    return Applied.from_json(row["answer"])


def _at(db: Connection, name: str, revision: int | None) -> tuple[Row, int]:
    """The gallery, and the revision that is meant; the present one when None."""
    row = gallery_row(db, name)
    at = row["revision"] if revision is None else revision
    if at and not queries.has_revision(db, row["id"], at):
        raise NotFoundError(f"gallery {name!r} has no revision {at}")
    return row, at
