"""Credit-limit pages of the apps, continued: 借呗, 生活费, 拍拍贷, 微粒贷."""

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.promotions import promotion
from tests.samples.theme import DARK, rgb, theme
from tests.samples.values import Values

_MT = theme("#FFC300", "#FFD84D", on_accent=(34, 34, 34), radius=14)
_PPD = theme("#2F7BFF", "#5AA2FF", radius=10)
_WLD = theme("#3478F6", "#5E9BFF", radius=6, pill=False, bg=rgb("#F7F8FA"))


def _money(v: Values) -> tuple[int, int]:
    total = v.random.randrange(3000, 200001, 500)
    return total, total if v.chance(0.4) else v.random.randrange(300, total, 100)


def jb_main_page(v: Values, brand: Brand) -> b.Page:
    """借呗: blue, borrow and repay as two tabs."""
    total, left = _money(v)
    return b.Page(
        theme=theme("#1677FF", "#4C9BFF", radius=10),
        title=brand.name,
        action="more",
        ground=(rgb("#1677FF"), rgb("#69AEFF")),
        ground_h=258,
        blocks=(
            b.Tabs(("借钱", "还钱"), 0),
            b.Hero(
                caption="可借额度(元)",
                amount=f"{left:,}.00",
                button="借钱",
                tag=v.pick(("1天起借", "提前还款0手续费", "有优惠")),
                align="middle",
                lines=(f"年利率(单利){v.rate()} 日利率0.0{v.random.randint(2, 6)}%",),
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(
                                label="本月待还",
                                value=v.pick(("暂无", f"{v.cents(90, 5000)}元")),
                                arrow=True,
                            ),
                            b.Row(label="总计额度", value=f"{total:,}.00", arrow=True),
                            b.Row(label="借款记录", arrow=True),
                        )
                    ),
                )
            ),
            promotion(v),
            b.Card(
                (
                    b.Heading(text="更多服务"),
                    b.Grid(
                        items=(
                            ("up", "额度管理"),
                            ("shield", "账户安全"),
                            ("bill", "开具证明"),
                            ("chat", "我的客服"),
                        )
                    ),
                )
            ),
            b.Note(text=f"{brand.app}信贷服务由{brand.company}等机构提供"),
        ),
        foot=b.TabBar((("yen", "借钱"), ("ticket", "优惠"), ("user", "我的"))),
    )


def mtshf_amount(v: Values, brand: Brand) -> b.Page:
    """生活费: yellow, a gauge of what is left."""
    total, left = _money(v)
    return b.Page(
        theme=_MT,
        title=brand.app,
        action="more",
        ground=(rgb("#FFD84D"), rgb("#FFF3C4")),
        on_ground=DARK,
        ground_h=300,
        blocks=(
            b.Hero(
                caption="可借金额(元)",
                amount=f"{left:,}",
                style="gauge",
                share=left / total,
                lines=(f"总额度{total:,}元",),
                button="借一笔",
            ),
            b.Card((b.Pairs((("近7日待还(元)", v.cents(0, 2000)), ("年利率(单利)", v.rate()))),)),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="借款记录", icon="bill", arrow=True),
                            b.Row(
                                label="我的券包",
                                icon="ticket",
                                value=f"{v.random.randint(0, 9)}张",
                                arrow=True,
                            ),
                            b.Row(label="常见问题", icon="info", arrow=True),
                        )
                    ),
                )
            ),
            promotion(v),
            b.Note(text=f"{brand.name}由{brand.company}等机构提供"),
        ),
    )


def mtshf_total_amount(v: Values, brand: Brand) -> b.Page:
    """生活费: the total limit and how to raise it."""
    total, left = _money(v)
    used = total - left
    return b.Page(
        theme=_MT,
        title="额度管理",
        action="规则",
        ground=(rgb("#FFD84D"), rgb("#FFF3C4")),
        on_ground=DARK,
        ground_h=150,
        blocks=(
            b.Hero(
                caption=f"{brand.name}总额度(元)",
                amount=f"{total:,}.00",
                lines=(f"已用{used:,}.00元，剩余可用{left:,}.00元",),
            ),
            b.Card(
                (
                    b.Bar(
                        share=max(0.03, used / total), left=f"已用 {used:,}", right=f"可用 {left:,}"
                    ),
                    b.Rows(
                        (
                            b.Row(label="基础额度", value=f"{total * 3 // 4:,}"),
                            b.Row(label="专项额度", value=f"{total - total * 3 // 4:,}"),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Heading(text="提升额度"),
                    b.Item(
                        title="完善个人信息", sub="最高可提升5000元", icon="user", button="去完善"
                    ),
                    b.Item(
                        title="认证公积金", sub="预计提升10000元", icon="shield", button="去认证"
                    ),
                    b.Item(
                        title="绑定常用信用卡", sub="通过率提升30%", icon="card", button="去绑定"
                    ),
                )
            ),
            b.Note(text=f"额度由{brand.app}综合评估，请以实际为准"),
        ),
    )


def ppd_amount(v: Values, brand: Brand) -> b.Page:
    """拍拍贷: a notice, a coloured card, steps to the money."""
    total, left = _money(v)
    who = f"{v.other_name()}刚刚成功借款{v.random.randrange(1000, 50000, 500)}元"
    return b.Page(
        theme=_PPD,
        title=brand.name,
        title_at="left",
        back=False,
        action="bell",
        blocks=(
            b.Notice(text=f"恭喜{who}", arrow=True),
            b.Hero(
                caption="最高可借(元)",
                amount=f"{left:,}",
                style="filled",
                button="立即申请",
                lines=(f"总额度{total:,}元 年化利率{v.rate()}起",),
                tag=v.pick(("最快3分钟到账", "息费透明", "新客优惠")),
            ),
            b.Card((b.Steps(("提交申请", "快速审核", "确认借款", "极速到账"), 0),)),
            promotion(v),
            b.Card(
                (
                    b.Heading(text="借款产品", bar=True),
                    b.Item(
                        title="普通借款",
                        sub=f"最高{v.random.randint(5, 20)}万 分3-12期",
                        icon="yen",
                        button="借款",
                    ),
                    b.Item(
                        title="极速借款", sub="凭信用卡额度快速申请", icon="card", button="借款"
                    ),
                )
            ),
            b.Note(text=f"{brand.company}\n市场有风险，借款需谨慎，请勿过度借贷"),
        ),
        foot=b.TabBar((("home", "首页"), ("bill", "还款"), ("gift", "福利"), ("user", "我的"))),
    )


def wld_amount(v: Values, brand: Brand) -> b.Page:
    """微粒贷: sober, two buttons."""
    total, left = _money(v)
    return b.Page(
        theme=_WLD,
        title=brand.name,
        action="more",
        blocks=(
            b.Gap(18),
            b.Hero(
                caption="可借(元)",
                amount=f"{left:,}.00",
                align="middle",
                lines=(f"总额度 {total:,}.00 | 年利率(单利) {v.rate()}",),
            ),
            b.Gap(6),
            b.Button(text="借钱"),
            b.Button(text="还钱", kind="outline"),
            b.Gap(10),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="待还总额", value=v.cents(0, 30000), arrow=True),
                            b.Row(label="下次还款日", value=v.date(years=(2025, 2026))),
                            b.Row(label="还款账户", value=v.bank_card(), arrow=True),
                            b.Row(label="借款明细", arrow=True),
                        )
                    ),
                ),
                flat=True,
            ),
            b.Card(
                (b.Rows((b.Row(label="设置", arrow=True), b.Row(label="常见问题", arrow=True))),),
                flat=True,
            ),
            b.Note(text=f"{brand.name}由{brand.company}联合合作银行提供"),
        ),
    )
