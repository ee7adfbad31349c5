"""A store with something in every table, as months of use leave it."""

from __future__ import annotations

from pagesight_server.gallery import Change, Entry, Gallery, Settled
from pagesight_server.gallery.snapshot import LabelFacts
from tests.support.parts import BUNDLES, OTHER_BUNDLES
from tests.support.stores import content, enrol, picture_id, put


def fill(store: Gallery) -> None:
    """Enrols, changes, settles, purges and deletes, and leaves content that nobody enrolled."""
    enrol(store, {"one": "a", "two": "a", "three": "b", "gone": "b"})
    enrol(store, {"one": "x", "四": "页"}, gallery="二")
    store.set_facts(Change(), {"a": LabelFacts(brands=("银行",), outputs=("biz",))})
    store.set_facts(Change(), {"a": LabelFacts(brands=("银行", "bank"))})
    store.relabel(Change(author="li", request_id="r-1"), [picture_id("two")], "c")
    store.remove(Change(request_id="r-0"), [picture_id("three")])
    store.rollback(Change(request_id="r-2"), 3)
    store.settle(
        "default",
        [Settled(key="k1", kind="near", labels=("a",), image_ids=(picture_id("one"),))],
        author="mei",
        note="as it should be",
    )
    store.purge([picture_id("gone")], author="mei")
    store.put_calibration("default", 2, "pagesight 0.05 v1", '{"threshold": 0.5}')
    store.put_content(content("one"), OTHER_BUNDLES)
    put(store, "never enrolled")
    entry = Entry(image_id=put(store, "last", OTHER_BUNDLES), label="z")
    store.enrol(Change(gallery="left"), [entry], OTHER_BUNDLES)
    store.delete(Change(gallery="left"))
    assert BUNDLES != OTHER_BUNDLES
