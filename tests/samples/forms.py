"""A page that asks for or shows personal information, whichever app it belongs to.

Form ── groups of (words, kind of value) ──> form(spec, values, brand) ──> Page
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.theme import Theme
from tests.samples.values import INCOMES, JOBS, KIN, MARRIAGES, PURPOSES, SCHOOLS, Values

Field = tuple[str, str]
"""Text of a field, and the kind of its value."""

Group = tuple[str, tuple[Field, ...]]
"""A heading (`{name}`, `{app}` are the brand) and its fields."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One app's page of personal information."""

    theme: Theme
    title: str
    groups: tuple[Group, ...]
    button: str
    notice: str = ""
    intro: str = ""
    small: str = ""
    tick: bool = False
    steps: tuple[str, ...] = ()
    flat: bool = False
    left: bool = False
    bar: bool = False
    title_at: str = "middle"
    action: str = ""


def value(kind: str, v: Values) -> tuple[str, bool]:
    """The value of a field, and whether it is only a placeholder."""
    makers: dict[str, Callable[[], str]] = {
        "name": lambda: v.masked_name,
        "id": v.identity,
        "phone": v.phone,
        "school": lambda: v.pick(SCHOOLS),
        "marriage": lambda: v.pick(MARRIAGES),
        "region": v.region,
        "street": v.street,
        "job": lambda: v.pick(JOBS),
        "income": lambda: v.pick(INCOMES),
        "firm": v.firm,
        "kin": lambda: v.pick(KIN),
        "other": v.other_name,
        "card": v.bank_card,
        "purpose": lambda: v.pick(PURPOSES),
        "date": v.date,
        "mail": lambda: f"{v.digits(3)}****@{v.pick(('qq', '163', '126'))}.com",
        "done": lambda: v.pick(("已完善", "已填写", "已认证")),
        "long": lambda: v.pick(("长期有效", f"有效期至{v.date(years=(2027, 2040))}")),
        "time": lambda: v.pick(("1年以下", "1-3年", "3-5年", "5年以上")),
        "money": lambda: v.amount(1000, 90000),
        "number": lambda: f"{v.digits(4)}****{v.digits(4)}",
    }
    text = makers[kind]()
    chosen = kind in ("school", "marriage", "job", "income", "kin", "region", "purpose", "mail")
    if chosen and v.chance(0.13):
        return "请选择", True
    if kind in ("street", "firm", "other") and v.chance(0.08):
        return "请输入", True
    return text, False


def form(spec: Form, v: Values, brand: Brand) -> b.Page:
    """Build the page for a user and a brand."""

    def said(text: str) -> str:
        return text.format(name=brand.name, app=brand.app, company=brand.company)

    parts: list[b.Block] = []
    if spec.notice:
        parts.append(b.Notice(text=said(spec.notice), icon="shield"))
    if spec.steps:
        parts.append(b.Card((b.Steps(spec.steps, 1),), flat=True))
    if spec.intro:
        parts.append(b.Note(text=said(spec.intro), align="left", size=12.5))
    for heading, fields in spec.groups:
        rows = []
        for label, kind in fields:
            text, empty = value(kind, v)
            arrow = empty or kind in ("school", "marriage", "job", "income", "kin", "region")
            rows.append(b.Row(label=label, value=text, hint=empty, arrow=arrow))
        inner: tuple[b.Block, ...] = (b.Rows(tuple(rows), left=spec.left),)
        if heading:
            inner = (b.Heading(text=said(heading), bar=spec.bar), *inner)
        parts.append(b.Card(inner, flat=spec.flat))
    if spec.small:
        align = "left" if spec.tick else "middle"
        parts.append(b.Note(text=said(spec.small), align=align, tick=spec.tick))
    return b.Page(
        theme=spec.theme,
        title=said(spec.title),
        blocks=tuple(parts),
        title_at=spec.title_at,
        foot=b.Foot((b.Button(text=spec.button),)),
        action=spec.action,
    )
