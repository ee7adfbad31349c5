"""The next version of an app: the same page, recoloured, reordered and partly reworded.

    Page + label ─> other shades, card style, place of the title ─> rows moved ─> phrases renamed

A label has one new version, whatever the user, as an app has one current release. Its brand
stays.
"""

import colorsys
import dataclasses
import random
from typing import Any, TypeVar

from tests.samples import blocks as b
from tests.samples.theme import Rgb, Theme, brightness, rgb

T = TypeVar("T")

PHRASES: tuple[tuple[str, str], ...] = (
    ("个人信息安全", "信息安全"),
    ("填写个人信息", "完善资料"),
    ("补充个人信息", "完善个人资料"),
    ("证件号码", "身份证号码"),
    ("身份证号", "证件号"),
    ("手机号码", "联系电话"),
    ("手机号", "手机号码"),
    ("婚姻状况", "婚姻情况"),
    ("居住地址", "现居住地"),
    ("详细地址", "街道门牌"),
    ("月收入", "税后月收入"),
    ("单位名称", "工作单位"),
    ("联系人关系", "与您的关系"),
    ("紧急联系人", "联系人信息"),
    ("学历", "最高学历"),
    ("基本信息", "基础资料"),
    ("身份信息", "实名信息"),
    ("职业信息", "工作资料"),
    ("保存", "确认保存"),
    ("可借额度", "当前可借"),
    ("可用额度", "剩余额度"),
    ("总额度", "授信额度"),
    ("借款记录", "我的借还"),
    ("提升额度", "提额中心"),
    ("优惠券", "券包"),
    ("年化利率(单利)", "年利率"),
    ("额度有效期", "有效期"),
    ("去借款", "立即借"),
    ("去借钱", "马上借"),
    ("立即借款", "去借钱"),
    ("我要借款", "立即借款"),
    ("待还账单", "本月账单"),
    ("还款账户", "扣款账户"),
    ("常见问题", "帮助与客服"),
    ("消息通知", "通知管理"),
    ("隐私设置", "隐私与授权"),
    ("账户与安全", "账号安全"),
    ("借款优势", "为什么选择我们"),
    ("可借金额", "可用金额"),
    ("额度组成", "额度明细"),
    ("最高可借", "预计可借"),
    ("借款产品", "为你推荐"),
    ("我的额度", "额度中心"),
    ("额度详情", "授信详情"),
    ("待还总额", "剩余待还"),
    ("常用功能", "快捷服务"),
    ("更多服务", "其他服务"),
    ("额度变更记录", "变更历史"),
    ("额度管理", "我的额度"),
    ("我的客服", "在线客服"),
    ("总资产", "资产总览"),
    ("借多少", "借款金额"),
    ("借多久", "借款期限"),
    ("收款账户", "收款银行卡"),
)
"""Phrases of the old version and of the new one; a label changes about half of its own."""


def redesign(page: b.Page, label: str) -> b.Page:
    """The page as the app's next release shows it."""
    rng = random.Random(f"redesign of {label}")
    renamed = [pair for pair in PHRASES if rng.random() < 0.5]
    app = label.partition("_")[0]
    turn = _legible_turn(page.theme.accent, random.Random(f"new colours of {app}"))
    style = _Style.drawn(rng, page)
    page = _reworded(page, renamed)
    ground = page.ground and (turned(page.ground[0], turn), turned(page.ground[1], turn))
    return dataclasses.replace(
        page,
        theme=dataclasses.replace(
            page.theme,
            accent=turned(page.theme.accent, turn),
            accent2=turned(page.theme.accent2, turn),
            bg=rng.choice((rgb("#EEF1F6"), rgb("#F7F4F0"), rgb("#F0F3F1"))),
            line=rgb("#E4E7EC"),
            radius=18 if page.theme.radius < 11 else 4,
            pill=not page.theme.pill,
        ),
        blocks=tuple(_restyled(block, style, rng) for block in _moved(page.blocks, rng)),
        ground=ground,
        title_at="left" if page.title_at == "middle" and rng.random() < 0.7 else "middle",
        action=rng.choice((page.action, "more", "chat")),
    )


@dataclasses.dataclass(frozen=True)
class _Style:
    """The changes of the new version that apply to all pages of an app."""

    flat: bool
    tinted: bool
    flip_values: bool
    stacked: bool

    @classmethod
    def drawn(cls, rng: random.Random, page: b.Page) -> "_Style":
        cards = [block.flat for block in page.blocks if isinstance(block, b.Card)]
        was_flat = sum(cards) * 2 > len(cards)
        return cls(
            flat=was_flat != (rng.random() < 0.5),
            tinted=rng.random() < 0.25,
            flip_values=rng.random() < 0.7,
            stacked=rng.random() < 0.4,
        )


def _legible_turn(accent: Rgb, rng: random.Random) -> float:
    """A random rotation of the hues that keeps texts on the accent legible."""
    # Yellow turned towards green cannot be read on white.
    yellow = brightness(accent) > 150
    turns = [-0.05, -0.04, -0.03] if yellow else [-0.11, -0.08, -0.05, 0.05, 0.08, 0.11]
    rng.shuffle(turns)
    now = brightness(accent)
    legible = (turn for turn in turns if -45 < brightness(turned(accent, turn)) - now < 12)
    return next(legible, -0.03)


def turned(colour: Rgb, turn: float) -> Rgb:
    """A colour with its hue rotated by a share of the circle."""
    hue, light, full = colorsys.rgb_to_hls(*(part / 255 for part in colour))
    red, green, blue = colorsys.hls_to_rgb((hue + turn) % 1.0, light, full)
    return round(red * 255), round(green * 255), round(blue * 255)


def _moved(blocks: tuple[b.Block, ...], rng: random.Random) -> list[b.Block]:
    """The cards and promotions in another order; head and small print stay."""
    places = [number for number, block in enumerate(blocks) if _movable(block)]
    order = list(blocks)
    if len(places) > 1 and rng.random() < 0.75:
        turn = rng.randrange(1, len(places))
        for place, source in zip(places, places[turn:] + places[:turn], strict=True):
            order[place] = blocks[source]
    return order


def _movable(block: b.Block) -> bool:
    if isinstance(block, b.Card):
        return not isinstance(block.blocks[0], b.Steps)
    return isinstance(block, b.Banner)


def _restyled(block: b.Block, style: _Style, rng: random.Random) -> b.Block:
    if isinstance(block, b.Card):
        inner = tuple(_restyled(child, style, rng) for child in block.blocks)
        return dataclasses.replace(block, blocks=inner, flat=style.flat, tinted=style.tinted)
    if isinstance(block, b.Rows):
        return _new_rows(block, style, rng)
    if isinstance(block, b.Heading):
        return dataclasses.replace(block, bar=not block.bar)
    if isinstance(block, b.Hero):
        return _new_hero(block, rng)
    if isinstance(block, b.Grid):
        items = (*block.items[1:], block.items[0])
        return dataclasses.replace(block, items=items, coloured=not block.coloured)
    return block


def _new_rows(block: b.Rows, style: _Style, rng: random.Random) -> b.Rows:
    rows = list(block.rows)
    if len(rows) > 2:
        moved = rows.pop(rng.randrange(1, len(rows)))
        rows.insert(rng.randrange(len(rows)), moved)
    plain = all(row.value and not row.icon and not row.sub for row in rows)
    return dataclasses.replace(
        block,
        rows=tuple(rows),
        stacked=style.stacked and plain and len(rows) < 5,
        left=plain and (block.left != style.flip_values),
    )


def _new_hero(block: b.Hero, rng: random.Random) -> b.Hero:
    align = "left" if block.align == "middle" and block.style != "gauge" else "middle"
    style = {"filled": "card", "card": "filled"}.get(block.style, block.style)
    if block.style == "gauge" and rng.random() < 0.5:
        style = "plain"
    return dataclasses.replace(block, align=align, style=style)


def _reworded(part: T, renamed: list[tuple[str, str]]) -> T:
    """Rename phrases in every text of a page, each place at most once."""
    if isinstance(part, str):
        return _renamed(part, renamed)  # type: ignore[return-value]
    if isinstance(part, tuple):
        return tuple(_reworded(child, renamed) for child in part)  # type: ignore[return-value]
    if dataclasses.is_dataclass(part) and not isinstance(part, (type, Theme)):
        changes: dict[str, Any] = {
            spec.name: _reworded(getattr(part, spec.name), renamed)
            for spec in dataclasses.fields(part)
        }
        return dataclasses.replace(part, **changes)
    return part


def _renamed(text: str, renamed: list[tuple[str, str]]) -> str:
    for old, new in renamed:
        if old in text and new not in text:
            return text.replace(old, new, 1)
    return text
