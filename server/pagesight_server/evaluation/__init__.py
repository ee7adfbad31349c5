"""Evaluation of a gallery on labelled test folders.

    DIR/<label>/* ──run──> predictions ──metrics──> figures
                                  └──files──> metrics.json, predictions.jsonl, report.html

Nothing here recognises anything: every image goes alone through the pipeline that
`serve` uses, and only afterwards is the answer compared with its folder's name.

    prediction     the answer for one test image, beside the truth
    metrics        predictions -> every figure, without side effects
    mistakes       predictions -> how many answers are wrong, by kind
    rounding       rates as text, so that no error is rounded away
    outputs        the same figures for business labels
    run            folders -> predictions, through a pipeline
    compare        ablations, baselines and open-set detectors on the same images
    validation     a threshold calibrated on labelled traffic
    feature_cache  embeddings and texts, kept in a file between runs
    display_names  labels as people read them
    charts         figures -> geometry of the charts
    heat_map       confusion matrix -> geometry of its heat map
    html           templates and thumbnails
    report         a run -> one HTML file
    answers        a few answers -> one HTML file, for the demo and for reviewers
    summary        a run -> tables for the terminal
    files          a run -> the files in its folder
"""

from pagesight_server.evaluation.answers import AnswerRow, answers_report
from pagesight_server.evaluation.compare import Comparison, Observation, compare
from pagesight_server.evaluation.feature_cache import FeatureFile
from pagesight_server.evaluation.files import compare_json, metrics_json, prepare, write
from pagesight_server.evaluation.html import ImageBytes
from pagesight_server.evaluation.metrics import Metrics, measure
from pagesight_server.evaluation.prediction import Prediction
from pagesight_server.evaluation.report import report
from pagesight_server.evaluation.run import Outcome, Run, collect, evaluate
from pagesight_server.evaluation.summary import compared, summary
from pagesight_server.evaluation.validation import Validation, validate

__all__ = [
    "AnswerRow",
    "Comparison",
    "FeatureFile",
    "ImageBytes",
    "Metrics",
    "Observation",
    "Outcome",
    "Prediction",
    "Run",
    "Validation",
    "answers_report",
    "collect",
    "compare",
    "compare_json",
    "compared",
    "evaluate",
    "measure",
    "metrics_json",
    "prepare",
    "report",
    "summary",
    "validate",
    "write",
]
