"""Nearest pictures by embedding: derived from what the store says, and rebuilt from it at will.

    cosines.py   cosines, and the order in which pictures are nearest
    exact.py     the exact index of one matrix
    policy.py    when an index stops being exact, and what it is then
    ivfpq.py     the base of a large one: trained, measured, kept only when it finds enough
    vectors.py   the vectors themselves: a generation on disk, and what came since
    layered.py   base + exact delta, less what was removed; scores always exact
    disk.py      generations on disk: checksummed, written beside and renamed
    manager.py   which generation is searched, and when it gets another
    owner.py     one thread for what only one may use

This package alone imports faiss, and only where something is searched: what keeps vectors
(`vectors.py`, `policy.py`) is imported without it. Whatever a base approximates, only *which*
pictures are compared depends on it: every cosine that leaves here is the true one, so nothing an
index rounds away can reach the threshold that decides `other`.
"""
