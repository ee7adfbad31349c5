"""What a store holds, as rows that are the same whichever database it is: for digests and copies.

    Table ──stream──> rows by key, without what is large ──fetch, a few at a time──> whole rows

A gallery is named instead of numbered, and so is a settlement: numbers are each store's own. Not
here is what is no content: who serves the store, its managed backups, how far a copy is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from pagesight_server.gallery.database import Connection

Values: TypeAlias = dict[str, Any]
"""The values of a row by column."""

ROWS_AT_A_TIME = 500
"""Rows that are held at a time: of texts, a few MB."""

_GALLERY = "(SELECT id FROM galleries WHERE name = :gallery)"
_SETTLEMENT = (
    "(SELECT s.id FROM settlements s JOIN galleries g ON g.id = s.gallery_id "
    "WHERE g.name = :gallery AND s.finding_key = :finding_key)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table, and how its rows are told apart."""

    name: str
    key: tuple[str, ...]
    """What names a row, in the order in which rows are read; `gallery` stands for its number."""
    columns: tuple[str, ...] = ()
    """The others, without those that are large."""
    large: tuple[str, ...] = ()
    """What is fetched for a few rows at a time; their key begins with the id of a picture."""
    size_of: str = ""
    """The large column whose length tells whether it has changed, where no digest does."""
    texts: tuple[str, ...] = ()
    """Columns whose texts are read as bytes."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """SQL of columns that are each store's own, by their names."""
    at_a_time: int = ROWS_AT_A_TIME
    """Whole rows that are held at a time."""
    in_order: str = ""
    """A number by which rows are put anew in the order in which they came."""

    @property
    def whole(self) -> tuple[str, ...]:
        """The names of all columns: key, what is compared, and what is large."""
        return (*self.key, *self.columns, *self.large)

    @property
    def marks(self) -> tuple[str, ...]:
        """The columns that tell whether two rows of one key are alike."""
        return (*self.columns, *(("size",) if self.size_of else ()))

    def select(self, db: Connection, *, ordered: bool = True) -> str:
        """SQL: the rows without what is large, by key."""
        columns = [f"{self._sql(db, name)} AS {name}" for name in (*self.key, *self.columns)]
        if self.size_of:
            columns.append(f"coalesce(length(t.{self.size_of}), -1) AS size")
        sql = f"SELECT {', '.join(columns)} FROM {self._from()}"
        if not ordered:
            return sql
        order = [self._sql(db, name) for name in self.key]
        if self.name == "facts":
            # Rows of one key, of a store that schema 3 has made of an older one.
            order += ["coalesce(t.removed_revision, 0)", "t.brands", "t.outputs"]
        return f"{sql} ORDER BY {', '.join(order)}"

    def fetch(self, db: Connection, ids: Sequence[bytes]) -> str:
        """SQL: what is large of the pictures `:i0`, `:i1` …, with the key."""
        columns = [f"{self._sql(db, name)} AS {name}" for name in (*self.key, *self.large)]
        marks = ", ".join(f":i{number}" for number in range(len(ids)))
        return f"SELECT {', '.join(columns)} FROM {self._from()} WHERE t.{self.key[0]} IN ({marks})"

    @property
    def insert(self) -> str:
        """SQL: puts a row whose columns are parameters."""
        values = {self._column(name): self._value(name) for name in self.whole}
        values |= dict(self.extra)
        return (
            f"INSERT INTO {self.name} ({', '.join(values)}) VALUES ({', '.join(values.values())})"
        )

    @property
    def update(self) -> str:
        """SQL: makes the row of a key what the parameters say."""
        changed = [f"{name} = :{name}" for name in (*self.columns, *self.large)]
        return f"UPDATE {self.name} SET {', '.join(changed)} WHERE {self._is_key()}"

    @property
    def delete(self) -> str:
        """SQL: deletes the row of a key."""
        return f"DELETE FROM {self.name} WHERE {self._is_key()}"

    def _is_key(self) -> str:
        names = (name for name in self.key if name != "finding_key" or self.name == "settlements")
        return " AND ".join(f"{self._column(name)} = {self._value(name)}" for name in names)

    def _from(self) -> str:
        if "gallery" not in self.key:
            return f"{self.name} t"
        if self.name == "settled_images":
            settlement = "settlements s ON s.id = t.settlement_id"
            return f"settled_images t JOIN {settlement} JOIN galleries g ON g.id = s.gallery_id"
        return f"{self.name} t JOIN galleries g ON g.id = t.gallery_id"

    def _sql(self, db: Connection, name: str) -> str:
        """SQL that reads a column."""
        if name == "gallery":
            return "g.name"
        if name == "finding_key" and self.name == "settled_images":
            return "s.finding_key"
        if name in self.texts:
            return db.dialect.text.format(f"t.{name}")
        return db.dialect.binary.format(f"t.{name}") if name in self.large else f"t.{name}"

    def _column(self, name: str) -> str:
        """The column that a name stands for."""
        if self.name == "settled_images" and name in {"gallery", "finding_key"}:
            return "settlement_id"
        return "gallery_id" if name == "gallery" else name

    def _value(self, name: str) -> str:
        """SQL: the value of a column, of a row whose columns are parameters."""
        if self.name == "settled_images" and name in {"gallery", "finding_key"}:
            return _SETTLEMENT
        return _GALLERY if name == "gallery" else f":{name}"


TABLES = (
    Table(
        name="images",
        key=("id",),
        columns=("width_px", "height_px"),
        large=("bytes",),
        size_of="bytes",
        # Screenshots take up to a few MB each.
        at_a_time=16,
    ),
    Table(
        name="kept",
        key=("image_id",),
        columns=("form", "size_bytes", "thumbnail_sha256", "stored_at_ms"),
    ),
    Table(name="embeddings", key=("image_id", "bundle"), columns=("sha256",), large=("vector",)),
    Table(
        name="readings",
        key=("image_id", "bundle"),
        columns=("sha256",),
        large=("reading",),
        texts=("reading",),
    ),
    Table(
        name="galleries",
        key=("name",),
        columns=("revision", "encoder_bundle", "ocr_bundle", "deleted"),
    ),
    Table(
        name="revisions",
        key=("gallery", "revision"),
        columns=("made_at_ms", "author", "kind", "summary", "images"),
    ),
    Table(
        name="memberships",
        key=("gallery", "image_id", "added_revision"),
        columns=("label", "source", "author", "added_at_ms", "removed_revision"),
    ),
    Table(
        name="facts",
        key=("gallery", "label", "added_revision"),
        columns=("removed_revision", "brands", "outputs"),
    ),
    Table(
        name="calibrations",
        key=("gallery", "revision", "method"),
        columns=("calibration", "sha256"),
        texts=("calibration",),
    ),
    Table(
        name="answers",
        key=("gallery", "request_id"),
        columns=("kind", "answer"),
        in_order="number",
    ),
    Table(
        name="settlements",
        key=("gallery", "finding_key"),
        columns=("kind", "author", "note", "settled_at_ms"),
    ),
    Table(name="settled_images", key=("gallery", "finding_key", "image_id")),
    Table(
        name="kept_answers",
        # One picture has one answer in a gallery; of another time, it is another.
        key=("image_id", "gallery", "kept_at_ms"),
        columns=(
            "revision",
            "label",
            "closest_label",
            "score",
            "threshold",
            "doubt",
            "review_reasons",
            "kept_reason",
            "size_bytes",
            "encoder_bundle",
            "vector_sha256",
            "ocr_bundle",
            "reading_sha256",
            "image_sha256",
        ),
        large=("vector", "reading", "image"),
        texts=("reading",),
        at_a_time=16,
        in_order="number",
    ),
    Table(
        name="decisions",
        key=("gallery", "decision_id"),
        columns=(
            "image_id",
            "label",
            "shown_label",
            "shown_closest_label",
            "shown_doubt",
            "revision",
            "reviewer",
            "decided_at_ms",
            "known_label",
            "seconds",
        ),
        in_order="number",
    ),
    Table(
        name="dismissed",
        key=("image_id", "gallery"),
        columns=(
            "cluster_key",
            "author",
            "dismissed_at_ms",
            "encoder_bundle",
            "vector_sha256",
            "ocr_bundle",
            "reading_sha256",
        ),
        large=("vector", "reading"),
        texts=("reading",),
    ),
    Table(
        name="purged",
        key=("image_id",),
        columns=("purged_at_ms", "author"),
        # A store that never had the pictures has nothing left of them.
        extra={"scrubbed": "1"},
    ),
    Table(
        name="purged_memberships",
        key=("gallery", "image_id", "added_revision"),
        columns=("author", "added_at_ms", "removed_revision"),
    ),
)
"""All content, each table behind those that it refers to."""

NO_CONTENT = frozenset({"backups", "replicas", "copying"})
"""Tables of what is each store's own."""


def batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yields rows in lists, so many at a time."""
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


def key_of(table: Table, row: Any) -> tuple[Any, ...]:
    """What names a row; as bytes, so that Python and both databases order it alike."""
    values = (row[name] for name in table.key)
    return tuple(value.encode() if isinstance(value, str) else value for value in values)


def whole_rows(db: Connection, table: Table, rows: Iterable[Any]) -> Iterator[Values]:
    """Rows of `Table.select` with what is large of them."""
    for batch in batched(rows, table.at_a_time):
        large: dict[tuple[Any, ...], Any] = {}
        if table.large:
            ids = list(dict.fromkeys(row[table.key[0]] for row in batch))
            values = {f"i{number}": image_id for number, image_id in enumerate(ids)}
            for row in db.execute(table.fetch(db, ids), values):
                large[key_of(table, row)] = row
        for row in batch:
            whole = {name: row[name] for name in (*table.key, *table.columns)}
            if table.large:
                fetched = large[key_of(table, row)]
                whole |= {name: fetched[name] for name in table.large}
            yield whole
