"""Pages of other finance apps in layouts of their own: `other_finance`.

Here what one buys: funds, shares, insurance, deposits; payments are in `finance_money`.
"""

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.finance_money import (
    GOLD,
    GREEN,
    RED,
    TEAL,
    any_theme,
    bill_detail,
    bill_list,
    transfer,
)
from tests.samples.theme import Rgb, rgb
from tests.samples.values import Values

_FUNDS = (
    "沪深300指数A",
    "中证白酒联接C",
    "新能源主题混合",
    "稳健纯债债券A",
    "全球科技互联网",
    "医疗健康混合",
    "红利低波ETF联接",
    "货币市场基金A",
    "半导体芯片ETF",
    "消费精选股票",
    "养老目标2045",
    "黄金ETF联接",
)
_STOCKS = (
    "贵阳重工",
    "华东电力",
    "南岭科技",
    "江北医药",
    "海川新材",
    "北辰光电",
    "东湖软件",
    "西岭矿业",
)


def _walk(v: Values, count: int) -> tuple[float, ...]:
    level, points = 100.0, []
    for _ in range(count):
        level += v.random.gauss(0.05, 1.0)
        points.append(level)
    return tuple(points)


def _colour(v: Values) -> tuple[str, Rgb]:
    change = v.random.uniform(-4, 5)
    return f"{change:+.2f}%", RED if change >= 0 else GREEN


def funds(v: Values, brand: Brand) -> b.Page:
    """A list of funds with their gains."""
    items = []
    for name in v.random.sample(_FUNDS, 9):
        change, colour = _colour(v)
        items.append(
            b.Item(
                title=name,
                sub=f"{v.digits(6)} 近一年",
                right=change,
                right_sub=f"净值 {v.random.uniform(0.6, 4):.4f}",
                right_colour=colour,
            )
        )
    return b.Page(
        theme=any_theme(v),
        title="基金排行",
        action="search",
        blocks=(
            b.Tabs(("自选", "收益榜", "热销", "新发"), 1),
            b.Card(
                (
                    b.Tabs(("近1月", "近3月", "近1年", "近3年"), v.random.randrange(4), chips=True),
                    *items,
                ),
                flat=True,
            ),
            b.Note(text=f"基金销售服务由{brand.company}提供，基金有风险，投资需谨慎"),
        ),
    )


def stock(v: Values, brand: Brand) -> b.Page:
    """A stock: price, chart, order book."""
    price, points = v.random.uniform(5, 300), _walk(v, 60)
    gain = points[-1] / points[0] - 1
    book = [
        b.Row(label=f"卖{level}", value=f"{price + level / 100:.2f}   {v.digits(3)}")
        for level in (3, 2, 1)
    ]
    book += [
        b.Row(label=f"买{level}", value=f"{price - level / 100:.2f}   {v.digits(3)}")
        for level in (1, 2, 3)
    ]
    return b.Page(
        theme=any_theme(v),
        title=f"{v.pick(_STOCKS)} {v.digits(6)}",
        action="search",
        blocks=(
            b.Hero(
                caption=f"已收盘 {v.date()} 15:00",
                amount=f"{price:.2f}",
                lines=(f"{price * gain:+.2f}  {gain:+.2%}",),
            ),
            b.Card(
                (
                    b.Pairs(
                        (
                            ("最高", f"{price * max(points) / points[-1]:.2f}"),
                            ("最低", f"{price * min(points) / points[-1]:.2f}"),
                            ("成交量", f"{v.digits(2)}.{v.digits(1)}万手"),
                            ("市盈率", f"{v.random.uniform(5, 90):.1f}"),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Tabs(("分时", "五日", "日K", "周K", "月K"), 0),
                    b.Chart(
                        points=points,
                        dates=("09:30", "11:30/13:00", "15:00"),
                        colour=RED if gain >= 0 else GREEN,
                    ),
                )
            ),
            b.Card((b.Heading(text="五档盘口"), b.Rows(tuple(book)))),
            b.Note(text=f"行情由{brand.app}提供，仅供参考"),
        ),
        foot=b.Foot((b.Button(text="加自选", kind="outline"), b.Button(text="买入"))),
    )


def insurance(v: Values, brand: Brand) -> b.Page:
    """Insurance products on offer."""
    offers = (
        "百万医疗险",
        "家财综合险",
        "航班延误险",
        "意外伤害险",
        "少儿重疾险",
        "养老年金险",
        "宠物医疗险",
    )
    items = tuple(
        b.Item(
            title=name,
            sub=f"最高保额{v.random.randint(1, 60)}0万 已有{v.digits(2)}万人投保",
            icon="shield",
            right=f"¥{v.random.randint(1, 99)}.{v.digits(1)}起",
            right_colour=rgb("#FF7A30"),
        )
        for name in v.random.sample(offers, 6)
    )
    return b.Page(
        theme=any_theme(v),
        title=brand.app,
        title_at="left",
        back=False,
        action="search",
        blocks=(
            b.Search("搜索保险产品"),
            b.Banner(
                title="全家保障一次配齐",
                sub="免费领取投保方案",
                button="测一测",
                colours=(TEAL.accent2, TEAL.accent),
            ),
            b.Card(
                (
                    b.Grid(
                        items=(
                            ("heart", "医疗"),
                            ("shield", "意外"),
                            ("star", "重疾"),
                            ("home", "家财"),
                            ("clock", "养老"),
                            ("gift", "少儿"),
                            ("bill", "车险"),
                            ("more", "全部"),
                        ),
                        coloured=True,
                    ),
                )
            ),
            b.Card((b.Heading(text="热销榜单", more="更多"), *items)),
        ),
        foot=b.TabBar((("home", "首页"), ("shield", "保单"), ("heart", "健康"), ("user", "我的"))),
    )


def deposit(v: Values, brand: Brand) -> b.Page:
    """Deposits and wealth products."""
    terms = ("3个月", "6个月", "1年", "2年", "3年", "5年")
    items = tuple(
        b.Item(
            title=f"整存整取 {term}",
            sub=f"起存金额 {v.pick(('50', '1000', '10000'))}元",
            right=v.rate(0.8, 2.8),
            right_sub="年利率",
            right_colour=RED,
        )
        for term in terms
    )
    return b.Page(
        theme=any_theme(v),
        title="存款专区",
        action="info",
        blocks=(
            b.Card(
                (b.Chart(points=_walk(v, 24), dates=("2023", "2024", "2025"), colour=GOLD.accent),),
                tinted=True,
            ),
            b.Card((b.Heading(text="定期存款", bar=True), *items)),
            b.Note(text=f"{brand.company} 存款保险保护"),
        ),
    )


FINANCE = (funds, stock, bill_detail, bill_list, transfer, insurance, deposit)
