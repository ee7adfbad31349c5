"""In which order screenshots are looked at, and how they are dealt."""

from __future__ import annotations

import hashlib
import random

from pagesight import GalleryFinding
from pagesight._review_page.model import Question, Waiting
from pagesight._review_page.order import in_order, share_of
from pagesight._review_page.queue import HAND, Queue


def waiting(number: int, *, label: str = "login", doubt: float = 0.1, closest: str = "") -> Waiting:
    return Waiting(
        image_id=hashlib.sha256(f"{number}".encode()).hexdigest(),
        origin="folder",
        label=label,
        closest_label=closest or label,
        doubt=doubt,
    )


def question(kind: str = "wrong_label") -> Question:
    return Question(
        finding=GalleryFinding(kind=kind, labels=("login",), image_ids=(), key=kind)  # type: ignore[arg-type]
    )


def queue(*, known_share: float = 0.0, second_opinions: float = 0.0) -> Queue:
    return Queue(
        "token/ann",
        known_share=known_share,
        second_opinions=second_opinions,
        draw=random.Random(1),
    )


def test_the_most_doubtful_come_first_then_one_of_each_kind_commonest_first() -> None:
    doubtful = [waiting(1, doubt=0.96), waiting(2, doubt=0.99)]
    of_login = [waiting(number) for number in range(10, 13)]
    of_account = [waiting(number, label="account") for number in range(20, 24)]
    rejected = waiting(30, label="other", closest="account")
    ordered = in_order([*of_login, rejected, *of_account, *doubtful])
    assert [item.doubt for item, stage in ordered if stage == "doubtful"] == [0.99, 0.96]
    # Login is seen among the doubtful already; account is commoner than what was rejected.
    variety = [item.group for item, stage in ordered if stage == "variety"]
    assert variety == [(False, "account"), (True, "account")]


def test_a_tenth_of_the_rest_is_drawn_the_same_every_time() -> None:
    items = [waiting(number) for number in range(1_000)]
    drawn = [item.image_id for item, stage in in_order(items) if stage == "random"]
    again = [item.image_id for item, stage in in_order(items[::-1]) if stage == "random"]
    assert drawn == again
    # 999 draws of a tenth: within four standard deviations (9.5) of 100.
    assert 62 <= len(drawn) <= 138
    assert {share_of(image_id) < 0.1 for image_id in drawn} == {True}


def test_everything_is_in_the_order_once() -> None:
    items = [waiting(number, doubt=number / 100) for number in range(100)]
    ordered = [item for item, _ in in_order(items)]
    assert sorted(item.key for item in ordered) == sorted(item.key for item in items)


def test_a_hand_stays_while_something_better_comes_in() -> None:
    dealt = queue()
    for number in range(3):
        dealt.add(waiting(number, doubt=0.96))
    dealt.fill_hand(more_to_come=True)
    before = [item.key for item, _ in dealt.hand]
    dealt.add(waiting(9, doubt=1.0))
    dealt.fill_hand(more_to_come=True)
    assert [item.key for item, _ in dealt.hand][:3] == before
    assert len(dealt.hand) == 4


def test_a_known_item_is_hidden_before_each_screenshot_where_all_may_have_one() -> None:
    dealt = queue(known_share=1.0)
    for number in range(10):
        dealt.add(waiting(number, doubt=0.99))
    assert dealt.known_wanted == 5
    for number in range(5):
        dealt.add_known(Waiting(image_id="k", origin="known", key=f"known {number}"))
    dealt.fill_hand(more_to_come=False)
    origins = [item.origin for item, _ in dealt.hand if isinstance(item, Waiting)]
    assert origins[:4] == ["known", "folder", "known", "folder"]
    assert len(dealt.hand) == HAND
    # It is told by nothing that is shown: not even by why it is asked.
    assert {stage for _, stage in dealt.hand} == {"doubtful"}


def test_questions_wait_until_no_screenshot_is_to_come_and_the_gravest_is_first() -> None:
    asked = queue()
    asked.add_question(question("few_pictures"))
    asked.add_question(question("wrong_label"))
    asked.fill_hand(more_to_come=True)
    assert asked.hand == []
    asked.fill_hand(more_to_come=False)
    kinds = [item.finding.kind for item, _ in asked.hand if isinstance(item, Question)]
    assert kinds == ["wrong_label", "few_pictures"]


def test_one_question_comes_after_seven_screenshots() -> None:
    asked = queue()
    asked.add_question(question())
    for number in range(20):
        asked.add(waiting(number, doubt=0.99))
    dealt: list[str] = []
    while len(dealt) < 12:
        asked.fill_hand(more_to_come=False)
        item, _ = asked.hand[0]
        dealt.append(type(item).__name__)
        if isinstance(item, Question):
            asked.close_question(item.key, settled=True)
        else:
            asked.remove(item)
    assert dealt.index("Question") == 7
    assert dealt.count("Question") == 1


def test_what_another_decided_leaves_but_for_second_opinions() -> None:
    items = [waiting(number, doubt=0.99) for number in range(1_000)]
    none, all_of_them, tenth = (queue(second_opinions=share) for share in (0.0, 1.0, 0.1))
    for work in (none, all_of_them, tenth):
        for item in items:
            work.add(item)
            work.note_decision(item.image_id, "token/bob", f"bob's of {item.image_id}")
    assert none.counts == (0, 0)
    assert all_of_them.counts == (1_000, 0)
    assert 62 <= tenth.counts[0] <= 138
    # A third opinion is not asked for, nor one's own again.
    for item in items:
        all_of_them.note_decision(item.image_id, "carol", f"carol's of {item.image_id}")
    assert all_of_them.counts == (0, 0)
    mine = queue(second_opinions=1.0)
    mine.note_decision(items[0].image_id, "token/ann", "made yesterday")
    mine.add(items[0])
    assert mine.counts == (0, 0)


def test_who_has_the_same_name_under_another_token_is_somebody_else() -> None:
    item = waiting(1, doubt=0.99)
    work = queue(second_opinions=1.0)
    work.add(item)
    for token in ("other", "other/token"):
        work.note_decision(item.image_id, f"{token}/ann", "hers")
        assert work.counts == (1, 0)


def test_what_another_takes_back_waits_again_unless_it_was_decided_here() -> None:
    first, second, third = (waiting(number, doubt=0.99) for number in (1, 2, 3))
    work = queue()
    for item in (first, second):
        work.add(item)
        work.note_decision(item.image_id, "bob", f"bob's of {item.image_id}")
    work.note_decision(first.image_id, "carol", "carol's")
    work.note_decision(third.image_id, "bob", "bob's third")
    work.add(third)  # decided before it was heard of
    assert work.counts == (0, 0)
    work.forget_decision(first.image_id, f"bob's of {first.image_id}")
    assert work.counts == (0, 0)  # carol's stands
    work.forget_decision(first.image_id, "carol's")
    work.forget_decision(third.image_id, "bob's third")
    assert work.counts == (2, 0)
    work.remove(second)
    work.forget_decision(second.image_id, f"bob's of {second.image_id}")
    work.forget_decision(second.image_id, "never heard of")
    assert work.counts == (2, 0)


def test_a_question_is_reopened_on_top_and_says_whether_it_was_settled() -> None:
    asked = queue()
    one = question()
    asked.add_question(one)
    asked.fill_hand(more_to_come=False)
    asked.close_question(one.key, settled=True)
    assert asked.hand == []
    assert asked.reopen_question(one.key)
    assert [item.key for item, _ in asked.hand] == [one.key]
