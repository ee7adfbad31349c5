"""Diagnoses as messages."""

from __future__ import annotations

from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.curation.diagnostics import Diagnosis, HardlyRead, LabelHealth
from pagesight_server.curation.own_scores import OwnScores
from pagesight_server.service import convert_curation
from pagesight_server.text.legibility import Legibility
from tests.support.parts import image_id, snapshot


def test_a_diagnosis_carries_what_labels_score_look_like_and_share() -> None:
    first, second = snapshot(("a", (1, 0), ["abcd"]), ("b", (0, 1), ["额度"])).pictures
    message = convert_curation.diagnosis(
        Diagnosis(
            revision=1,
            images=2,
            examined=2,
            suspects=(),
            duplicates=(),
            labels=(
                LabelHealth(
                    label="a",
                    images=2,
                    distinct=2,
                    own=OwnScores(scores=(0.25, 0.75), rejected=1),
                    rejected=(first,),
                    least_looks=0.5,
                    unlike=(first,),
                    text_shared_with=("b", "c"),
                ),
                LabelHealth(label="b", images=1, distinct=1),
            ),
            rejection_bound=1.0,
            hardly_read=(HardlyRead(picture=second, legibility=Legibility(20, 11)),),
        )
    )
    assert (message.left_out_images, message.rejected_images) == (2, 1)
    a, b = message.labels
    assert (a.left_out_images, a.mean_score, a.least_score) == (2, 0.5, 0.25)
    assert list(a.rejected_image_ids) == [image_id(0)]
    assert (a.least_looks, list(a.unlike_image_ids)) == (0.5, [image_id(0)])
    assert list(a.text_shared_with) == ["b", "c"]
    assert (b.left_out_images, b.mean_score, b.least_looks) == (0, 0.0, 0.0)
    assert not b.unlike_image_ids
    assert list(message.hardly_read) == [
        gpb.HardlyReadImage(image_id=image_id(1), label="b", text_lines=20, hardly_read_lines=11)
    ]
