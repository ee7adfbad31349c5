"""Nearest pictures by embedding: derived from what the store says, and rebuilt from it at will.

    exact.py     cosines; the exact index of one matrix
    plan.py      when an index stops being exact, and what it is then
    ivfpq.py     the base of a large one: trained, measured, kept only when it finds enough
    vectors.py   the vectors themselves: a generation on disk, and what came since
    layered.py   base + exact delta, less what was removed; scores always exact
    shelf.py     generations on disk: checksummed, written beside and renamed
    keeper.py    which generation is searched, and when it gets another
    owner.py     one thread for what only one may use
    engine.py    the seam for galleries past one machine; milvus.py speaks to Milvus

This package alone imports faiss. Whatever a base approximates, only *which* pictures are
compared depends on it: every cosine that leaves here is the true one, so nothing an index
rounds away can reach the threshold that decides `other`.
"""

from pagesight_server.index.disk import Shelf
from pagesight_server.index.exact import FlatIndex, Hits
from pagesight_server.index.layered import LayeredIndex, Neighbours, nearest
from pagesight_server.index.manager import Keeper
from pagesight_server.index.policy import IndexSettings
from pagesight_server.index.vectors import Generation, Vectors

__all__ = [
    "FlatIndex",
    "Generation",
    "Hits",
    "IndexSettings",
    "Keeper",
    "LayeredIndex",
    "Neighbours",
    "Shelf",
    "Vectors",
    "nearest",
]
