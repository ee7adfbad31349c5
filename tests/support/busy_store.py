"""A store with something in every table, as months of use leave it."""

from __future__ import annotations

from dataclasses import replace

from pagesight_server.gallery import (
    Change,
    Decision,
    DismissedPicture,
    Entry,
    Gallery,
    KeepLimits,
    Settled,
)
from pagesight_server.gallery.snapshot import LabelFacts
from tests.support.parts import BUNDLES, OTHER_BUNDLES, reading, unit
from tests.support.stores import answered, content, enrol, picture_id, put


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
    kept = [answered("a shot"), answered("four", gallery="二"), answered("a second shot")]
    kept.append(replace(answered("unread"), reading=None))
    store.keep(kept, KeepLimits(answers=5))
    made = Decision(
        decision_id="d2", image_id=picture_id("a shot"), label="页", shown_doubt=0.1, seconds=1.5
    )
    store.record_decisions("default", [made, replace(made, decision_id="d1", reviewer="mei")])
    dismissed = DismissedPicture(
        image_id=picture_id("a second shot"), embedding=unit(1, 2, 2), reading=reading("广告")
    )
    store.dismiss("default", {"k": [dismissed]}, BUNDLES, author="mei")
    store.purge([picture_id("gone")], author="mei")
    store.put_calibration("default", 2, "pagesight 0.05 v1", '{"threshold": 0.5}')
    store.put_content(content("one"), OTHER_BUNDLES)
    put(store, "never enrolled")
    entry = Entry(image_id=put(store, "last", OTHER_BUNDLES), label="z")
    store.enrol(Change(gallery="left"), [entry], OTHER_BUNDLES)
    store.delete(Change(gallery="left"))
    assert BUNDLES != OTHER_BUNDLES
