"""The numbers of recognition that a person chose, and what moving each of them does.

    CONSTANTS ──half, twice──> set in every module that reads it ──methods──> figures
                                                                  └─less those as it is──> Effect

Everything else that differs between galleries is fitted on the gallery. These numbers are the only
thing that several sets had a say in, so no figure of a set that was looked at while they were
chosen is a figure of an unseen set. The list is complete: a test fails on a number in these
modules that is in neither list.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from pagesight_server.evaluation import measure
from tests.bench.recognition.methods import OURS, answers
from tests.bench.recognition.sets import ScreenSet

PACKAGE = "pagesight_server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A number of the source, by where it stands."""

    module: str
    """Below `pagesight_server`."""
    name: str
    owner: str = ""
    """The class that holds it; empty where the module does."""
    element: int | None = None
    """Which number of an array."""
    share_of: float | None = None
    """What it is a share of, 1 or 100 %, where twice of it would be more than that: then its odds
    are halved and doubled."""
    also: tuple[float, ...] = ()
    """Values to try besides half and twice."""
    imported_as: str = ""
    """Another name under which a module imports it."""

    @property
    def title(self) -> str:
        """The constant as the table names it."""
        place = "" if self.element is None else f"[{self.element}]"
        return f"{self.module.rpartition('.')[2]}.{self.name}{place}"

    @property
    def value(self) -> float:
        """What the source says."""
        value = self._stored
        return float(value if self.element is None else value[self.element])

    @property
    def _stored(self) -> Any:
        return getattr(self._holder, self.name)

    @property
    def _holder(self) -> ModuleType | type:
        module = importlib.import_module(f"{PACKAGE}.{self.module}")
        if not self.owner:
            return module
        owner: type = getattr(module, self.owner)
        return owner

    @property
    def reason(self) -> str:
        """What the source says of it: the docstring under it, on one line."""
        tree = ast.parse(inspect.getsource(self._holder))
        body = tree.body
        if self.owner and isinstance(body[0], ast.ClassDef):
            body = body[0].body
        for statement, following in pairwise(body):
            if self.name in assigned_names(statement) and isinstance(following, ast.Expr):
                return " ".join(str(ast.literal_eval(following.value)).split())
        raise LookupError(f"{self.title} has no docstring")

    def tries(self) -> tuple[float, ...]:
        """Half of it, twice of it, and what else is to be tried."""
        return *self._half_and_twice(), *self.also

    def _half_and_twice(self) -> tuple[float, float]:
        value = self.value
        if self.share_of is not None:
            odds = value / (self.share_of - value)
            low, high = odds / 2, 2 * odds
            return self.share_of * low / (1 + low), self.share_of * high / (1 + high)
        if isinstance(self._stored, int):
            return float(max(1, math.floor(value / 2))), 2 * value
        return value / 2, 2 * value

    @contextmanager
    def moved(self, value: float) -> Iterator[None]:
        """Puts another number in its place, in every module that reads it, and back again."""
        stored = self._stored
        replacement: Any
        if self.element is not None:
            replacement = np.array(stored)
            replacement[self.element] = value
        else:
            replacement = type(stored)(value)
        names = {self.name, self.imported_as}
        places: list[tuple[ModuleType | type, str]] = [(self._holder, self.name)]
        for title, module in list(sys.modules.items()):
            if title.startswith(PACKAGE) and module is not self._holder and not self.owner:
                places += [
                    (module, name)
                    for name in names & set(vars(module))
                    if vars(module)[name] is stored and _imports(module, self, name)
                ]
        defaults = [] if self.owner else list(_defaults(self))
        try:
            for holder, name in places:
                setattr(holder, name, replacement)
            for function, argument in defaults:
                function.__kwdefaults__ = {**function.__kwdefaults__, argument: replacement}
            yield
        finally:
            for holder, name in places:
                setattr(holder, name, stored)
            for function, argument in defaults:
                function.__kwdefaults__ = {**function.__kwdefaults__, argument: stored}


def _all(module: str, *names: str, share_of: float | None = None) -> tuple[Constant, ...]:
    return tuple(Constant(module=module, name=name, share_of=share_of) for name in names)


CONSTANTS: tuple[Constant, ...] = (
    Constant(module="recognition.balance", name="PRIOR", element=0),
    *_all("recognition.balance", "PRECISION", "LEAST"),
    Constant(module="recognition.balance", name="MIN_PICTURES", imported_as="MIN_FITTED"),
    Constant(module="recognition.calibration", name="PICTURES_FOR_HALF", also=(2, 4)),
    *_all("recognition.calibration", "OWN_REJECTED", "GUARANTEE_PICTURES"),
    *_all("recognition.scorers.scorer", "LOOKS_SHARE", "MAX_TRUST", share_of=1.0),
    *_all("recognition.scorers.scorer", "VISUAL_WEIGHT", "AGREEMENT_FLOOR", "TRUST_PER_AGREEMENT"),
    *_all("recognition.scorers.siblings", "SCORE_PER_NAT", "MAX_NATS"),
    *_all("recognition.scorers.brands", "SCORE_PER_NAT", "RANKED_SHARE"),
    *_all("recognition.scorers.replaced", "SCORE_PER_NAME", "MAX_NAMES"),
    *_all("recognition.replaced_names", "ALIGNED", "MIN_NAME", "MAX_NAME", "MAX_TITLE"),
    *_all("recognition.replaced_names", "FOREIGN_SHARE"),
    *_all("recognition.replaced_names", "IN_ONE_LINE", share_of=1.0),
    *_all("recognition.templates", "PRIOR_PICTURES", "MAX_LINE_WEIGHT", "SIBLINGS_DIFFER"),
    *_all("recognition.string_rates", "STABLE", share_of=1.0),
    *_all("recognition.whitening", "SHRINKAGE", "MIN_DEGREES"),
    *_all("recognition.whitening", "WEIGHT", share_of=1.0),
    Constant(module="recognition.evidence", name="K", owner="PagesightMethod"),
    Constant(module="recognition.evidence", name="READ_LABELS", owner="PagesightMethod"),
    Constant(module="recognition.evidence", name="READ_PICTURES", owner="PagesightMethod"),
    *_all("text.lines", "STATUS_BAR", "MIN_CONTEXT", "MIN_CONTEXT_CHARACTERS"),
    *_all("text.lines", "MAX_DX", "MAX_DY", "MAX_HEIGHT_DIFFERENCE"),
    *_all("text.matching", "MIN_INFORMATIVE"),
    *_all("text.variants", "MIN_WORD"),
    *_all("text.variants", "ALIKE", share_of=100.0),
)
"""The numbers on which an answer depends."""

COST, EXACT, SHOWN, ASKED = "cost", "exact", "shown", "asked"
UNTRIED: dict[str, dict[str, tuple[str, ...]]] = {
    COST: {
        "recognition.balance": ("MAX_PICTURES", "STEPS", "CONVERGED"),
        "recognition.calibration": ("MAX_CALIBRATION_PICTURES", "MAX_QUANTILES", "STEP_PICTURES"),
        "recognition.templates": ("AGREEMENT_PICTURES", "MAX_IDS_A_STRING"),
        "recognition.whitening": ("MAX_PICTURES", "FOLDS"),
        "text.variants": ("MAX_EXAMINED", "MAX_RATIOS", "PAIR_BUCKETS"),
    },
    EXACT: {
        "recognition.calibration": ("EMPTY_THRESHOLD", "CALIBRATION_VERSION"),
        "recognition.decision": ("FORBIDDEN_BY",),
        "recognition.leave_one_out": ("EMPTY_SCORE",),
        "recognition.string_rates": ("MIN_TOTAL_WEIGHT",),
        "recognition.scorers.scorer": ("TEXT_WEIGHT",),
        "text.variants": ("EQUAL",),
    },
    SHOWN: {
        "recognition.decision": ("EXPECTED_NATS", "REVIEW_ABOVE"),
        "recognition.evidence": ("MAX_DIFFERENCES",),
        "recognition.explanation": ("MAX_PICTURES", "NAMED", "WORTH_TELLING"),
        "text.legibility": ("SURE", "MIN_LINES", "POOR_SHARE"),
        "text.matching": ("LINE_MATCH", "MIN_WORD_BESIDE_NUMBERS"),
    },
    ASKED: {
        "recognition.calibration": ("EPSILON",),
        "recognition.seed": ("VISUAL_WEIGHT",),
    },
}
"""The other numbers of these modules, by why they are not tried: they bound what large galleries
cost; they are exact by what they mean (a tie, a sum's rounding, what another constant leaves); they
decide what a person is shown and no label; or the operator or the published method sets them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one moved constant does to one set: figures less those with the constant as it is."""

    constant: str
    value: float
    tried: float
    set_name: str
    micro_f1: float
    auroc: float
    false_rejection: float
    rejected: float


def sensitivity(
    screen_set: ScreenSet, *, epsilon: float, constants: Sequence[Constant] = CONSTANTS
) -> Iterator[Effect]:
    """Moves each constant by itself and measures ours anew, gallery and calibration included.

    Args:
        screen_set: The set; known and unknown screenshots test it.
        epsilon: Share of known pages that may be rejected.
        constants: The constants to move.
    """
    as_it_is = _measured(screen_set, epsilon)
    for constant in constants:
        value = constant.value
        for tried in constant.tries():
            with constant.moved(tried):
                moved = _measured(screen_set, epsilon)
            micro_f1, auroc, false_rejection, rejected = (
                after - before for after, before in zip(moved, as_it_is, strict=True)
            )
            yield Effect(
                constant=constant.title,
                value=value,
                tried=tried,
                set_name=screen_set.name,
                micro_f1=micro_f1,
                auroc=auroc,
                false_rejection=false_rejection,
                rejected=rejected,
            )


def _measured(screen_set: ScreenSet, epsilon: float) -> tuple[float, float, float, float]:
    """Micro-F1, AUROC, false rejection and share of unknown screenshots rejected, of ours."""
    (ours,) = answers(screen_set, epsilon=epsilon, names=(OURS,))
    metrics = measure(ours.predictions)
    kinds = metrics.open_set.kinds.values()
    return (
        metrics.micro_f1 or 0.0,
        metrics.open_set.auroc or 0.0,
        metrics.open_set.false_rejection_rate or 0.0,
        sum(kind.rejected for kind in kinds) / max(1, sum(kind.n for kind in kinds)),
    )


def assigned_names(statement: ast.stmt) -> list[str]:
    """The names that a statement assigns, those of tuples too."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    ]


def _imports(module: ModuleType, constant: Constant, name: str) -> bool:
    """Whether a module's name is the constant, and not one of its own that is equal to it."""
    source = f"{PACKAGE}.{constant.module}"
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == source
        and any(
            one.name == constant.name and (one.asname or one.name) == name for one in node.names
        )
        for node in ast.walk(ast.parse(inspect.getsource(module)))
    )


def _defaults(constant: Constant) -> Iterator[tuple[Any, str]]:
    """The functions of its own module that take the constant as a default, and for which argument.

    A default is bound when the function is made, so setting the module's name does not reach it.
    """
    module = importlib.import_module(f"{PACKAGE}.{constant.module}")
    holders: list[tuple[ModuleType | type, Sequence[ast.stmt]]] = [
        (module, ast.parse(inspect.getsource(module)).body)
    ]
    holders += [
        (getattr(module, node.name), node.body)
        for node in holders[0][1]
        if isinstance(node, ast.ClassDef)
    ]
    for holder, body in holders:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                for argument, default in zip(
                    node.args.kwonlyargs, node.args.kw_defaults, strict=True
                ):
                    if isinstance(default, ast.Name) and default.id == constant.name:
                        yield getattr(holder, node.name), argument.arg
