"""Brands of the apps: known ones, invented ones, and white-label twins.

A page takes its brand as an argument and writes nothing else that names it, so the twin of a
page is the same page with another brand.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Brand:
    """The names of one app."""

    name: str
    """The product or app, as the page shows it."""
    app: str
    """The app's longer name."""
    place: str = ""
    """The place with which the company's name begins."""
    core: str
    """The middle of the company's name."""
    kind: str
    """The end of the company's name: trade and legal form."""
    aliases: tuple[str, ...] = ()
    """Other words that identify the brand."""

    @property
    def company(self) -> str:
        """Full name of the company behind the app."""
        return self.place + self.core + self.kind

    @property
    def words(self) -> tuple[str, ...]:
        """The brand names as an operator would list them in labels.toml, the usual one first."""
        return tuple(dict.fromkeys((self.name, self.app, *self.aliases)))


_LOANS, _CONSUMER, _BANK = "小额贷款有限公司", "消费金融有限公司", "银行股份有限公司"

BRANDS: Mapping[str, Brand] = {
    "ayh": Brand(
        name="安逸花",
        app="安逸花",
        core="马上",
        kind="消费金融股份有限公司",
        aliases=("马上消费金融",),
    ),
    "dxm": Brand(
        name="有钱花",
        app="度小满",
        place="重庆",
        core="度小满",
        kind=_LOANS,
        aliases=("度小满金融",),
    ),
    "dyfxj": Brand(
        name="放心借",
        app="抖音放心借",
        place="深圳市",
        core="中融",
        kind=_LOANS,
        aliases=("抖音",),
    ),
    "jb": Brand(
        name="借呗",
        app="蚂蚁借呗",
        place="重庆",
        core="蚂蚁",
        kind=_CONSUMER,
        aliases=("蚂蚁消费金融",),
    ),
    "jdjr": Brand(
        name="金条",
        app="京东金条",
        place="重庆",
        core="京东盛际",
        kind=_LOANS,
        aliases=("京东金融", "京东盛际"),
    ),
    "mtshf": Brand(
        name="生活费",
        app="美团生活费",
        place="重庆",
        core="美团三快",
        kind=_LOANS,
        aliases=("美团",),
    ),
    "ppd": Brand(
        name="拍拍贷",
        app="拍拍贷借款",
        place="上海",
        core="拍拍贷",
        kind="金融信息服务有限公司",
    ),
    "wld": Brand(
        name="微粒贷",
        app="微粒贷",
        place="深圳前海",
        core="微众",
        kind=_BANK,
        aliases=("微众银行",),
    ),
    "zfb": Brand(
        name="支付宝",
        app="支付宝",
        core="支付宝",
        kind="(中国)网络技术有限公司",
        aliases=("花呗", "芝麻信用"),
    ),
    "zsyh": Brand(
        name="闪电贷",
        app="招商银行",
        core="招商",
        kind=_BANK,
        aliases=("招行",),
    ),
}

_CORES = (
    "云帆",
    "禾穗",
    "青杉",
    "澜心",
    "满月",
    "星桥",
    "鹿鸣",
    "拾光",
    "三湘",
    "澜江",
    "沐云",
    "锦程",
)
"""Beginnings of the names of invented apps."""


_SHORT = ("灵花", "速贷", "好借", "闪借", "随花")
"""Complete names of two characters, too short for a beginning and an end."""


def _named(rng: random.Random, core: str, length: int) -> str:
    """A name of `length` characters, beginning with `core` if it fits."""
    if length <= 2:
        return rng.choice(_SHORT)
    if length == 3:
        return core[:2] + rng.choice("贷花借宝")
    return core[:2] + rng.choice(("金融", "钱包", "金服", "随借"))[: length - 2]


def invented(rng: random.Random) -> Brand:
    """Draws the brand of an app that does not exist."""
    core = rng.choice(_CORES)
    return Brand(
        name=core + rng.choice("贷花借卡"),
        app=core + rng.choice(("金融", "银行", "钱包", "金服")),
        core=core,
        kind=rng.choice((_LOANS, _CONSUMER, "融资担保有限公司", "金融服务有限公司")),
    )


def twin(brand: Brand, rng: random.Random) -> Brand:
    """Draws another brand, whose names have the lengths of `brand`'s, so that layouts are equal."""
    first, second = rng.sample(_CORES, 2)
    core = (first + second)[: len(brand.core)]
    if len(brand.core) == 3:
        core = first + rng.choice("米贝多")
    before, separator, after = brand.app.partition(brand.name)
    name = _named(rng, second if before else first, len(brand.name))
    if brand.name == brand.core:
        name = core
    if separator:
        app = first[: len(before)] + name + after
    elif brand.app.startswith(brand.core):
        app = core + brand.app[len(brand.core) :]
    else:
        app = _named(rng, first, len(brand.app))
    return Brand(name=name, app=app, place=brand.place, core=core, kind=brand.kind)


def brand_of(label: str) -> Brand:
    """The brand of a known label."""
    return BRANDS[label.split("_", 1)[0]]
