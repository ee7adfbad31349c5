"""Nearest neighbours by embedding: derived from the store, and rebuilt from it at any time.

    cosines.py   cosines, and the order of hits
    exact.py     exact index over one matrix
    policy.py    which kind of index a gallery gets, and when it is rebuilt
    ivf.py       bases of codes for large galleries: trained, measured, kept only with enough recall
    rotation.py  what one-bit codes are made after
    vectors.py   the vectors: a generation on disk, and a tail in memory of what came since
    layered.py   base + exact delta, without what was removed; scores are always exact
    disk.py      generations on disk: checksummed, written beside and renamed
    manager.py   which generation is searched, and when the next one is built
    owner.py     one thread for a resource that must not be shared

This package alone imports faiss, and only where there are codes (`ivf.py`, `gpu.py` and what uses
them): exact search and the keeping of vectors do without it. A base may be approximate, but it only
chooses *which* pictures are compared: every cosine that leaves this package is the true one, so no
quantisation error can reach the threshold that decides `other`.
"""
