"""Precision of the suggested brands on generated pages, whose true brands are known.

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
    """Prints the suggestions for each label, and their precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("store", type=Path, help="A store indexed from generated pages.")
    store = Gallery(parser.parse_args().store)
    snapshot = store.snapshot()
    store.close()
    suggested = right = company = first = labels = shows = has_right = 0
    for label, suggestions in suggest(snapshot).items():
        brand = brand_of(label)
        texts = [suggestion.text for suggestion in suggestions]
        is_brand = [text in brand.words for text in texts]
        is_company = [text in (brand.core, brand.company) for text in texts]
        suggested += len(texts)
        right += sum(is_brand)
        company += sum(c and not b for c, b in zip(is_company, is_brand, strict=True))
        labels += bool(texts)
        first += is_brand[:1] == [True]
        lines = (
            line.text
            for row in snapshot.sample[label]
            for line in snapshot.sampled_readings[row].lines
        )
        if any(word in line for line in lines for word in brand.words):
            shows += 1
            has_right += any(is_brand)
        marks = [
            "" if b else "(company) " if c else "X "
            for b, c in zip(is_brand, is_company, strict=True)
        ]
        print(f"{label:34} " + "  ".join(m + t for m, t in zip(marks, texts, strict=True)))
    print(
        f"{suggested} suggested, {right} right, {company} names of the company; the first is right "
        f"for {first} of {labels} labels; {has_right} of {shows} labels that show a brand have one"
    )


if __name__ == "__main__":
    main()
