"""Pages of 招商银行: the limit, its figures, the app's settings."""

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.promotions import promotion
from tests.samples.theme import rgb, theme
from tests.samples.values import Values

_ZS = theme("#C8152D", "#E5484D", radius=8, pill=False)


def zsyh_amount(v: Values, brand: Brand) -> b.Page:
    """招商银行, 闪电贷: the limit."""
    total = v.random.randrange(10000, 300001, 1000)
    left = total if v.chance(0.5) else v.random.randrange(1000, total, 100)
    return b.Page(
        theme=_ZS,
        title=brand.name,
        action="more",
        ground=(rgb("#C8152D"), rgb("#E86A5E")),
        ground_h=165,
        blocks=(
            b.Hero(
                caption="可用额度(元)",
                amount=f"{left:,}.00",
                style="card",
                button="我要借款",
                lines=(f"年化利率(单利){v.rate(3.2, 12)}",),
                tag=v.pick(("利率优惠", "限时8折", "随借随还")),
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="总额度", value=f"{total:,}.00", arrow=True),
                            b.Row(label="额度有效期至", value=v.date(years=(2026, 2028))),
                            b.Row(
                                label="我的借款", value=f"{v.random.randint(0, 4)}笔", arrow=True
                            ),
                            b.Row(label="我要还款", arrow=True),
                        )
                    ),
                )
            ),
            promotion(v),
            b.Card(
                (
                    b.Heading(text="常用功能"),
                    b.Grid(
                        items=(
                            ("bill", "借款合同"),
                            ("clock", "还款计划"),
                            ("ticket", "利率券"),
                            ("chat", "在线客服"),
                        )
                    ),
                )
            ),
            b.Note(text=f"本产品由{brand.company}提供\n贷款资金不得用于购房、炒股等用途"),
        ),
    )


def zsyh_amount_detail(v: Values, brand: Brand) -> b.Page:
    """招商银行, 闪电贷: every figure of the limit."""
    total = v.random.randrange(10000, 300001, 1000)
    left = total if v.chance(0.5) else v.random.randrange(1000, total, 100)
    return b.Page(
        theme=_ZS,
        title="额度详情",
        blocks=(
            b.Card(
                (
                    b.Heading(text=f"{brand.name}额度", bar=True),
                    b.Rows(
                        (
                            b.Row(label="授信总额度", value=f"{total:,}.00元", strong=True),
                            b.Row(label="可用额度", value=f"{left:,}.00元"),
                            b.Row(label="已用额度", value=f"{total - left:,}.00元"),
                            b.Row(label="冻结额度", value="0.00元"),
                            b.Row(label="年化利率(单利)", value=v.rate(3.2, 12)),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Heading(text="合同信息", bar=True),
                    b.Rows(
                        (
                            b.Row(label="合同编号", value=v.digits(4) + "****" + v.digits(4)),
                            b.Row(label="授信日期", value=v.date()),
                            b.Row(label="到期日期", value=v.date(years=(2026, 2029))),
                            b.Row(
                                label="还款方式",
                                value=v.pick(("等额本息", "按月付息到期还本", "随借随还")),
                            ),
                            b.Row(label="担保方式", value="信用"),
                            b.Row(label="放款账户", value=f"{brand.app}({v.digits(4)})"),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="额度调整记录", arrow=True),
                            b.Row(label="查看授信合同", arrow=True),
                        )
                    ),
                )
            ),
            b.Note(text=f"{brand.app} 您身边的银行"),
        ),
    )


def zsyh_setting(v: Values, brand: Brand) -> b.Page:
    """招商银行: the app's settings."""

    def on() -> bool:
        return v.chance(0.5)

    return b.Page(
        theme=_ZS,
        title="设置",
        action="search",
        blocks=(
            b.Card((b.Person(name=v.masked_name, sub=v.phone(), more="个人信息"),), flat=True),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="账户与安全", arrow=True),
                            b.Row(
                                label="登录设置",
                                value=v.pick(("面容登录", "指纹登录", "手势登录")),
                                arrow=True,
                            ),
                            b.Row(label="支付设置", arrow=True),
                            b.Row(label="限额管理", arrow=True),
                        )
                    ),
                ),
                flat=True,
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="消息通知", toggle=on()),
                            b.Row(label="摇一摇截屏反馈", toggle=on()),
                            b.Row(label="大字版", toggle=on()),
                            b.Row(
                                label="深色模式",
                                value=v.pick(("跟随系统", "已关闭", "已开启")),
                                arrow=True,
                            ),
                        )
                    ),
                ),
                flat=True,
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            b.Row(label="隐私设置", arrow=True),
                            b.Row(
                                label="清除缓存",
                                value=f"{v.random.randint(12, 900)}.{v.digits(1)}MB",
                                arrow=True,
                            ),
                            b.Row(
                                label=f"关于{brand.app}",
                                arrow=True,
                                value=f"V{v.random.randint(10, 13)}.{v.digits(1)}.{v.digits(1)}",
                            ),
                        )
                    ),
                ),
                flat=True,
            ),
            b.Button(text="退出登录", kind="outline"),
        ),
    )
