"""Credit-limit pages of the apps: limit, interest rate, due date.

Here 安逸花 and 度小满. Amounts, rates, dates and promotions vary from picture to picture; pages
of one app look alike and differ in purpose.
"""

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.promotions import promotion
from tests.samples.theme import rgb, theme
from tests.samples.values import PURPOSES, Values


def total_and_left(v: Values) -> tuple[int, str, str]:
    """A total limit as a number and as text, and the available limit as text."""
    total = v.random.randrange(5000, 200001, 500)
    left = total if v.chance(0.4) else v.random.randrange(500, total, 100)
    return total, f"{total:,}.00", f"{left:,}.00"


def ayh_amount(v: Values, brand: Brand) -> b.Page:
    """安逸花: a coloured head with the amount, tasks and services below."""
    _, total, left = total_and_left(v)
    return b.Page(
        theme=theme("#FF6B3D", "#FF9154"),
        title=brand.name,
        title_at="left",
        back=False,
        action="chat",
        ground=(rgb("#FF6B3D"), rgb("#FFA36B")),
        ground_h=140,
        blocks=(
            b.Hero(
                caption="可借额度(元)",
                amount=left,
                style="card",
                button="立即借款",
                tag=v.pick(("随借随还", "最快1分钟到账", "免息券可用")),
                lines=(f"总额度{total}元 | 年化利率(单利){v.rate()}起",),
            ),
            b.Card(
                (
                    b.Grid(
                        items=(
                            ("bill", "借还记录"),
                            ("up", "提升额度"),
                            ("ticket", "优惠券"),
                            ("card", "银行卡"),
                        )
                    ),
                )
            ),
            promotion(v),
            b.Card(
                (
                    b.Heading(text="待还账单", more="全部账单"),
                    b.Rows(
                        (
                            b.Row(label="近7日待还(元)", value=v.cents(0, 3000), strong=True),
                            b.Row(label="还款日", value=f"每月{v.random.randint(1, 28)}日"),
                        )
                    ),
                )
            ),
            b.Note(text=f"贷款服务由{brand.company}提供\n请根据个人能力合理贷款，理性消费"),
        ),
        foot=b.TabBar((("home", "首页"), ("cart", "商城"), ("bill", "还款"), ("user", "我的"))),
    )


def dxm_amount(v: Values, brand: Brand) -> b.Page:
    """度小满: a page of one limit, with what it is made of."""
    total, total_text, left = total_and_left(v)
    used = 1 - float(left.replace(",", "")) / total
    return b.Page(
        theme=theme("#FF4D3F", "#FF7A5C", radius=10),
        title="我的额度",
        action="额度说明",
        blocks=(
            b.Hero(
                caption=f"{brand.name}可用额度(元)",
                amount=left,
                style="filled",
                lines=(f"总额度 {total_text}元",),
                tag=v.pick(("正常", "额度使用中", "可提额")),
            ),
            b.Card(
                (
                    b.Heading(text="额度使用情况"),
                    b.Bar(share=max(0.03, used), left="已用额度", right=f"总额度 {total_text}"),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="年化利率(单利)", value=v.rate()),
                            b.Row(label="额度有效期", value=v.date(years=(2026, 2029))),
                            b.Row(label="额度类型", value="循环额度"),
                            b.Row(label="额度状态", value=v.pick(("正常", "可用"))),
                            b.Row(label="提升额度", value="去完成任务", arrow=True),
                        )
                    ),
                )
            ),
            promotion(v),
            b.Note(text=f"{brand.app}提示您：借款需谨慎，请按时还款\n本服务由{brand.company}提供"),
        ),
        foot=b.Foot((b.Button(text="去借钱"),)),
    )


def dxm_yqh(v: Values, brand: Brand) -> b.Page:
    """度小满's borrowing page: how much, for how long, to which card."""
    amount = v.amount(1000, 60000)
    return b.Page(
        theme=theme("#FF4D3F", "#FF7A5C", radius=10),
        title=brand.name,
        action="借款记录",
        blocks=(
            b.Card(
                (
                    b.Heading(text="借多少", more=f"最多可借{v.amount(60000, 200000)}"),
                    b.Hero(
                        caption="借款金额(元)",
                        amount=amount,
                        lines=(
                            f"年化利率(单利){v.rate()}，1千元用1天仅需"
                            f"0.{v.random.randint(20, 65)}元",
                        ),
                    ),
                )
            ),
            b.Card(
                (
                    b.Heading(text="借多久"),
                    b.Tabs(("3期", "6期", "12期", "24期"), v.random.randrange(4), chips=True),
                    b.Rows(
                        (
                            b.Row(
                                label="怎么还",
                                value=v.pick(("等额本息", "先息后本", "等额本金")),
                                arrow=True,
                            ),
                            b.Row(
                                label="首期应还",
                                value=f"{v.cents(100, 6000)}元",
                                arrow=True,
                                sub=f"首期还款日 {v.date()}",
                            ),
                            b.Row(
                                label="优惠券",
                                value=v.pick(("暂无可用", "1张可用", "免息7天")),
                                arrow=True,
                            ),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="收款账户", value=v.bank_card(), arrow=True),
                            b.Row(label="借款用途", value=v.pick(PURPOSES), arrow=True),
                        )
                    ),
                )
            ),
            b.Note(
                text=f"我已阅读并同意《{brand.name}借款合同》《个人征信授权书》等协议",
                align="left",
                tick=True,
            ),
        ),
        foot=b.Foot((b.Button(text="确认借款"),)),
    )
