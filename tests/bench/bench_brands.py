"""How many suggested brands are right, on the generator's pages, whose brands are known.

OUT/gallery ──index──> S ──suggest──> names ──compare──> brands.BRANDS

.venv/bin/python -m tests.samples OUT --labels all --gallery 6 --test 1 --other 1 --seed 11
.venv/bin/pagesight-server index OUT/gallery --store S --labels /dev/null
.venv/bin/python -m tests.bench.bench_brands S
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pagesight_server.curation.brand_mining import suggest
from pagesight_server.gallery import Gallery
from tests.samples.brands import brand_of


def main() -> None:
    """Prints what is suggested for each label and how much of it is right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("store", type=Path, help="A store indexed from generated pages.")
    store = Gallery(parser.parse_args().store)
    snapshot = store.snapshot()
    store.close()
    found = suggest(snapshot)
    suggested = right = company = first = labels = shows = has_right = 0
    for label, names in found.items():
        brand = brand_of(label)
        texts = [name.text for name in names]
        known = [text in brand.words for text in texts]
        behind = [text in (brand.core, brand.company) for text in texts]
        suggested += len(texts)
        right += sum(known)
        company += sum(b and not k for b, k in zip(behind, known, strict=True))
        labels += bool(texts)
        first += known[:1] == [True]
        lines = (
            line.text for p in snapshot.pictures if p.label == label for line in p.reading.lines
        )
        if any(word in line for line in lines for word in brand.words):
            shows += 1
            has_right += any(known)
        marks = [
            "" if k else "(company) " if b else "X " for k, b in zip(known, behind, strict=True)
        ]
        print(f"{label:34} " + "  ".join(m + t for m, t in zip(marks, texts, strict=True)))
    print(
        f"{suggested} suggested, {right} right, {company} names of the company; the first is right "
        f"for {first} of {labels} labels; {has_right} of {shows} labels that show a brand have one"
    )


if __name__ == "__main__":
    main()
