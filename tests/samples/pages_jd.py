"""Credit-limit pages of the apps, continued: 放心借 and 京东金条."""

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.pages_credit import total_and_left
from tests.samples.promotions import promotion
from tests.samples.theme import DARK, rgb, theme
from tests.samples.values import Values


def dyfxj_amount(v: Values, brand: Brand) -> b.Page:
    """放心借: a light page with a large amount in its middle."""
    _, total, left = total_and_left(v)
    return b.Page(
        theme=theme("#FE2C55", "#FF5C7A", radius=8, pill=False),
        title=brand.name,
        action="more",
        ground=(rgb("#FFE3E8"), rgb("#F5F6FA")),
        on_ground=DARK,
        ground_h=205,
        blocks=(
            b.Hero(
                caption="最高可借金额(元)",
                amount=left,
                align="middle",
                button="去借款",
                tag=v.pick(("低息", "已为你提额", "限时优惠")),
                lines=(f"年利率{v.rate()}起(单利)，借1千元1天利息低至{v.rate(0.2, 0.6)[:-1]}元",),
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="总额度", value=f"¥{total}", icon="wallet", arrow=True),
                            b.Row(
                                label="我的借款",
                                value=v.pick(("暂无待还", f"待还{v.cents(100, 9000)}")),
                                icon="bill",
                                arrow=True,
                            ),
                            b.Row(
                                label="优惠券",
                                value=f"{v.random.randint(0, 6)}张可用",
                                icon="ticket",
                                arrow=True,
                            ),
                        )
                    ),
                )
            ),
            promotion(v),
            b.Card(
                (
                    b.Heading(text="借款优势"),
                    b.Grid(
                        items=(("clock", "极速到账"), ("shield", "安全正规"), ("yen", "随借随还")),
                        columns=3,
                    ),
                )
            ),
            b.Note(
                text=f"{brand.app}由{brand.company}等持牌机构提供服务\n贷款额度、利率以实际审批结果为准"
            ),
        ),
    )


def jdjr_amount(v: Values, brand: Brand) -> b.Page:
    """京东金条: a red head and a row of services."""
    _, total, left = total_and_left(v)
    return b.Page(
        theme=theme("#E1251B", "#FF5A45", radius=10),
        title=brand.app,
        action="gear",
        ground=(rgb("#E1251B"), rgb("#F2664F")),
        ground_h=215,
        blocks=(
            b.Hero(
                caption="可借额度(元)",
                amount=left,
                align="middle",
                button="去借款",
                tag=v.pick(("已更新", "有免息", "日息低")),
                lines=(f"年利率{v.rate()}(单利) | 总额度 {total}",),
            ),
            b.Card(
                (b.Pairs((("近30天应还", v.cents(0, 5000)), ("免息券(张)", v.pick("0123456")))),)
            ),
            b.Card(
                (
                    b.Grid(
                        items=(
                            ("bill", "借款记录"),
                            ("up", "提额降息"),
                            ("ticket", "领免息券"),
                            ("info", "帮助中心"),
                        ),
                        coloured=True,
                    ),
                )
            ),
            promotion(v),
            b.Card(
                (
                    b.Heading(text=f"{brand.name}会员", more="更多权益"),
                    b.Rows(
                        (
                            b.Row(label="还款日提醒", value="已开启", arrow=True),
                            b.Row(label="自动还款", value=v.bank_card(), arrow=True),
                        )
                    ),
                )
            ),
            b.Note(text=f"贷款服务由{brand.company}及合作机构提供"),
        ),
    )


def jdjr_total_amount(v: Values, brand: Brand) -> b.Page:
    """京东金条: what the total limit is made of."""
    total, total_text, left = total_and_left(v)
    fixed = total // 3 * 2
    return b.Page(
        theme=theme("#E1251B", "#FF5A45", radius=10),
        title="总额度",
        action="info",
        ground=(rgb("#E1251B"), rgb("#F2664F")),
        ground_h=140,
        blocks=(
            b.Hero(
                caption=f"{brand.name}总额度(元)",
                amount=total_text,
                align="middle",
                lines=(f"可借额度 {left}",),
            ),
            b.Card(
                (
                    b.Heading(text="额度组成"),
                    b.Rows(
                        (
                            b.Row(
                                label="固定额度", value=f"{fixed:,}.00", sub="长期有效，循环使用"
                            ),
                            b.Row(
                                label="临时额度",
                                value=f"{total - fixed:,}.00",
                                sub=f"有效期至{v.date(years=(2026, 2027))}",
                            ),
                            b.Row(label="已用额度", value=v.cents(0, 4000)),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Heading(text="额度变更记录", more="全部"),
                    b.Item(title="系统评估提额", sub=v.date(), right=f"+{v.amount(500, 9000)}"),
                    b.Item(
                        title=v.pick(("临时额度到期", "首次授信", "还款恢复额度")),
                        sub=v.date(),
                        right=v.amount(1000, 50000),
                    ),
                )
            ),
            b.Note(text=f"额度由{brand.app}根据您的信用情况综合评估"),
        ),
        foot=b.Foot((b.Button(text="提升额度", kind="outline"), b.Button(text="去借款"))),
    )
