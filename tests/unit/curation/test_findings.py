"""A diagnosis as questions, and the keys by which a person settles them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from pagesight_server.curation.diagnostics import diagnose
from pagesight_server.curation.findings import Finding, findings
from pagesight_server.recognition.knowledge import Knowledge
from tests.support.parts import image_id, snapshot

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
LOAN = ("我的额度", "可用额度 800 元", "去借款")
CLOCK = ("Alarms", "Stopwatch", "Add a timer")
WRONG = Finding(kind="wrong_label", labels=("clock", "loan"), image_ids=("a1",))


def found(*pictures: tuple[str, tuple[float, ...], tuple[str, ...]]) -> list[Finding]:
    knowledge = Knowledge.of(snapshot(*pictures))
    return list(findings(diagnose(knowledge), knowledge.snapshot))


def test_a_diagnosis_asks_about_each_thing_that_it_found() -> None:
    asked = found(
        ("clock", GREEN, CLOCK),
        ("clock", GREEN, CLOCK),
        ("clock", RED, LOAN),
        ("loan", RED, LOAN),
        ("loan", RED, LOAN),
    )
    by_kind = {(one.kind, one.labels): set(one.image_ids) for one in asked}
    assert by_kind["wrong_label", ("clock", "loan")] == {image_id(2)}
    assert by_kind["near_duplicates", ("clock",)] == {image_id(0), image_id(1)}
    assert by_kind["near_duplicates", ("clock", "loan")] == set(map(image_id, (2, 3, 4)))
    assert by_kind["few_pictures", ("clock",)] == set(map(image_id, (0, 1, 2)))
    assert by_kind["few_pictures", ("loan",)] == set(map(image_id, (3, 4)))
    assert [one.kind for one in asked][:1] == ["wrong_label"]
    assert len({one.key for one in asked}) == len(asked)


def test_a_key_is_the_beginning_of_a_digest_of_kind_labels_and_pictures() -> None:
    about = json.dumps(["wrong_label", "clock", ["loan"], ["a1"]]).encode()
    assert WRONG.key == hashlib.sha256(about).hexdigest()[:16]


def test_a_key_is_the_same_in_any_order_of_pictures_and_of_further_labels() -> None:
    one = Finding(kind="no_own_text", labels=("a", "b", "c"), image_ids=("1", "2"))
    same = replace(one, labels=("a", "c", "b"), image_ids=("2", "1", "2"))
    assert one.key == same.key
    assert one.key != replace(one, labels=("b", "a", "c")).key


def test_a_finding_of_another_kind_label_or_picture_has_another_key() -> None:
    others = (
        replace(WRONG, kind="odd_picture"),
        replace(WRONG, labels=("loan", "clock")),
        replace(WRONG, labels=("clock", "alarm")),
        replace(WRONG, image_ids=("a2",)),
        replace(WRONG, image_ids=("a1", "a2")),
    )
    assert len({WRONG.key, *(other.key for other in others)}) == 6
