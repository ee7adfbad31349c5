"""How right the answers are: a gallery held against labelled test folders.

    DIR/<label>/* ──run──> predictions ──metrics──> figures
                                  └──files──> metrics.json, predictions.jsonl, report.html

Nothing here recognises anything: every image goes alone through the pipeline that
`serve` uses, and only afterwards is its folder's name looked at.

    prediction  what became of one image
    metrics     predictions -> every figure, pure
    run         folders -> predictions, through a pipeline
    names       labels as people read them
    charts      figures -> geometry of the drawings
    page        templates and thumbnails
    report      a run -> one HTML file
    answers     a few answers -> one HTML file, for the demo and for reviewers
    summary     a run -> what the terminal shows
    files       a run -> its folder
"""

from pagesight_server.evaluation.answers import AnswerRow, answers_report
from pagesight_server.evaluation.files import metrics_json, write
from pagesight_server.evaluation.metrics import Metrics, measure
from pagesight_server.evaluation.page import ImageBytes
from pagesight_server.evaluation.prediction import Prediction
from pagesight_server.evaluation.report import report
from pagesight_server.evaluation.run import Outcome, Run, evaluate
from pagesight_server.evaluation.summary import summary

__all__ = [
    "AnswerRow",
    "ImageBytes",
    "Metrics",
    "Outcome",
    "Prediction",
    "Run",
    "answers_report",
    "evaluate",
    "measure",
    "metrics_json",
    "report",
    "summary",
    "write",
]
