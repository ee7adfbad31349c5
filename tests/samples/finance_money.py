"""Pages of other finance apps about payments: bills and transfers."""

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.theme import Theme, rgb, theme
from tests.samples.values import BANKS, Values

RED, GREEN = rgb("#E5383B"), rgb("#12A15E")
BLUE, CRIMSON = theme("#2F6BFF", "#5A8CFF"), theme("#D6302A", "#F0605A", radius=8)
GOLD, TEAL = theme("#B8863B", "#D9B26A", radius=8), theme("#0FA3A0", "#3CC7C0")

_SHOPS = (
    "便利蜂超市",
    "地铁出行",
    "老王面馆",
    "云上咖啡",
    "水果鲜生",
    "鲜丰便利店",
    "滴滴打车",
    "电影票",
    "物业缴费",
    "文具店",
    "中国移动话费",
    "早餐铺",
)


def any_theme(v: Values) -> Theme:
    """The colours of some finance app."""
    return v.random.choice((BLUE, CRIMSON, GOLD, TEAL))


def bill_detail(v: Values, brand: Brand) -> b.Page:
    """One payment."""
    return b.Page(
        theme=any_theme(v),
        title="账单详情",
        action="more",
        blocks=(
            b.Card(
                (
                    b.Hero(
                        caption=v.pick(_SHOPS),
                        amount=f"-{v.cents(3, 600)}",
                        align="middle",
                        lines=("交易成功",),
                    ),
                    b.Rows(
                        (
                            b.Row(label="付款方式", value=v.bank_card()),
                            b.Row(
                                label="商品说明", value=v.pick(("扫码付款", "线上购物", "代扣缴费"))
                            ),
                            b.Row(label="创建时间", value=f"{v.date()} {v.time()}"),
                            b.Row(label="订单号", value=v.digits(18)),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(
                                label="账单分类", value=v.pick(("餐饮", "交通", "购物")), arrow=True
                            ),
                            b.Row(label="标签和备注", value="添加", arrow=True),
                            b.Row(label="计入收支", toggle=v.chance(0.7)),
                            b.Row(label="对订单有疑问", arrow=True),
                        )
                    ),
                )
            ),
            b.Note(text=brand.app),
        ),
    )


def bill_list(v: Values, brand: Brand) -> b.Page:
    """The list of a month's payments."""
    items = tuple(
        b.Item(
            title=v.pick(_SHOPS),
            sub=f"{v.date()[5:]} {v.time()}",
            logo=brand.name[0],
            right=f"{v.pick('--+')}{v.cents(2, 900)}",
            colour=v.random.choice((RED, GREEN)),
        )
        for _ in range(11)
    )
    return b.Page(
        theme=any_theme(v),
        title="收支明细",
        action="筛选",
        blocks=(
            b.Search("搜索交易记录"),
            b.Card(
                (b.Pairs((("支出", v.cents(900, 9000)), ("收入", v.cents(90, 30000)))), *items),
                flat=True,
            ),
        ),
    )


def transfer(v: Values, brand: Brand) -> b.Page:
    """The form of a transfer to a bank card."""
    return b.Page(
        theme=any_theme(v),
        title="转账到银行卡",
        action="记录",
        blocks=(
            b.Card(
                (
                    b.Heading(text="收款方"),
                    b.Rows(
                        (
                            b.Row(label="户名", value=v.other_name()),
                            b.Row(label="卡号", value=f"6222 **** **** {v.digits(4)}"),
                            b.Row(label="银行", value=v.pick(BANKS), arrow=True),
                        ),
                        left=True,
                    ),
                )
            ),
            b.Card(
                (
                    b.Hero(
                        caption="转账金额",
                        amount=f"¥{v.amount(100, 20000)}",
                        lines=(f"可用余额 {v.cents(1000, 60000)}元",),
                    ),
                    b.Rows(
                        (
                            b.Row(
                                label="到账方式",
                                value=v.pick(("实时到账", "2小时内", "次日到账")),
                                arrow=True,
                            ),
                            b.Row(label="附言", value="选填", hint=True),
                        )
                    ),
                )
            ),
            b.Button(text="下一步"),
            b.Note(text=f"{brand.app}提醒您谨防电信诈骗，切勿向陌生人转账"),
        ),
    )
