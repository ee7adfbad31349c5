"""The home page of 支付宝, with the name card."""

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.promotions import promotion
from tests.samples.theme import rgb, theme
from tests.samples.values import Values


def zfb_home(v: Values, brand: Brand) -> b.Page:
    """支付宝, 我的: the name card, then bills, assets, services."""
    return b.Page(
        theme=theme("#1677FF", "#4C9BFF", radius=10),
        title="我的",
        title_at="left",
        back=False,
        action="gear",
        ground=(rgb("#1677FF"), rgb("#5AA5FF")),
        ground_h=100,
        blocks=(
            b.Person(
                name=v.pick((v.name, v.given + v.pick(("同学", "", "Leo")), "小" + v.given[-1])),
                sub=v.phone(),
                tag=v.pick(("黄金会员", "铂金会员", "大众会员", "钻石会员")),
                more="个人主页",
            ),
            b.Card(
                (
                    b.Pairs(
                        (
                            ("优惠券", v.pick("0123456789")),
                            ("积分", v.digits(4)),
                            ("会员等级", f"V{v.random.randint(1, 7)}"),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="账单", icon="bill", arrow=True),
                            b.Row(
                                label="总资产",
                                icon="wallet",
                                arrow=True,
                                value=v.pick(("查看", v.cents(10, 90000))),
                            ),
                            b.Row(
                                label="余额", icon="yen", value=f"{v.cents(0, 4000)}元", arrow=True
                            ),
                            b.Row(
                                label="余额宝",
                                icon="up",
                                value=f"{v.cents(0, 40000)}元",
                                arrow=True,
                            ),
                            b.Row(
                                label="花呗",
                                icon="heart",
                                value=v.pick(("查账还款", "本月待还")),
                                arrow=True,
                            ),
                            b.Row(label="银行卡", icon="card", value=v.bank_card(), arrow=True),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(
                                label="芝麻信用",
                                icon="star",
                                arrow=True,
                                value=f"{v.random.randint(550, 820)}分",
                            ),
                            b.Row(label="我的客服", icon="chat", arrow=True),
                        )
                    ),
                )
            ),
            promotion(v),
            b.Note(text=f"{brand.company}"),
        ),
        foot=b.TabBar(
            (
                ("home", "首页"),
                ("chart", "理财"),
                ("play", "视频"),
                ("chat", "消息"),
                ("user", "我的"),
            ),
            4,
        ),
    )
