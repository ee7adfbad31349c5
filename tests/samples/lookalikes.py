"""Pages of other apps in the same templates, for other purposes: `other_lookalike`.

a form of insured people, patients, companies …     the layout of the *_user_info pages
a large figure with rows, grid, promotion …         the layout of the *_amount pages
a list of settings, a homepage with a name card     the layout of the remaining ones
"""

from dataclasses import replace

from tests.samples import blocks as b
from tests.samples.brands import Brand
from tests.samples.forms import Form, form
from tests.samples.lookalike_words import OTHER_AMOUNTS, OTHER_FORMS
from tests.samples.pages_info import FORMS
from tests.samples.promotions import promotion
from tests.samples.theme import DARK, Theme, mix, rgb, theme
from tests.samples.values import Values

_THEMES = tuple(spec.theme for spec in FORMS.values())


def lookalike(v: Values, brand: Brand) -> b.Page:
    """Draw a page of another app in one of the known templates."""
    return v.random.choice((_other_form, _other_form, _other_amount, _other_amount, _other_list))(
        v, brand
    )


def _shifted(v: Values) -> Theme:
    """Colours equal or close to those of a known app."""
    base = v.random.choice(_THEMES)
    to = rgb(v.pick(("#FF8A00", "#0FB5AE", "#3A5BFF", "#D6336C")))
    share = v.random.choice((0.0, 0.0, 0.25))
    return replace(base, accent=mix(base.accent, to, share), accent2=mix(base.accent2, to, share))


def _other_form(v: Values, brand: Brand) -> b.Page:
    title, groups, button, small = v.random.choice(OTHER_FORMS)
    base: Form = v.random.choice(tuple(FORMS.values()))
    notice = "{name}承诺保护您的信息安全" if base.notice else ""
    spec = replace(
        base,
        theme=_shifted(v),
        title=title,
        groups=groups,
        button=button,
        small=small,
        notice=notice,
        intro="",
        steps=(),
        tick=False,
    )
    return form(spec, v, brand)


def _figure(v: Values, name: str) -> str:
    if name in ("账单日", "还款日", "有效期", "缴至年月", "即将过期"):
        return v.date()
    if name == "卡号":
        return f"{v.digits(4)} **** {v.digits(4)}"
    if "率" in name or "年化" in name:
        return v.rate(1.2, 3.5)
    if "流量" in name:
        return f"{v.random.randint(1, 60)}.{v.digits(1)}GB"
    if "通话" in name:
        return f"{v.random.randint(10, 900)}分钟"
    if any(word in name for word in ("记录", "明细", "进度", "码", "门店", "分期", "权益", "名称")):
        return v.pick(("查看", "去看看", ""))
    if "单位" in name:
        return v.firm()
    return v.cents(0, 9000)


def _other_amount(v: Values, brand: Brand) -> b.Page:
    title, caption, button, names, grid = v.random.choice(OTHER_AMOUNTS)
    colours = _shifted(v)
    style = v.pick(("plain", "filled", "card", "gauge"))
    on_ground = style in ("plain", "gauge", "card") and v.chance(0.7)
    bright = sum(colours.accent) > 430
    rows = tuple(b.Row(label=name, value=_figure(v, name), arrow=True) for name in names)
    parts: list[b.Block] = [
        b.Card((b.Rows(rows),)),
        b.Card((b.Grid(items=grid, coloured=v.chance(0.4)),)),
        promotion(v),
    ]
    if v.chance(0.5):
        parts.reverse()
    return b.Page(
        theme=colours,
        title=v.pick((title, brand.name, brand.app)),
        action=v.pick(("more", "gear", "", "记录")),
        ground=(colours.accent, mix(colours.accent, (255, 255, 255), 0.3)) if on_ground else None,
        on_ground=DARK if bright else (255, 255, 255),
        ground_h=150 if style == "card" else 300 if style == "gauge" else 200,
        blocks=(
            b.Hero(
                caption=caption,
                amount=v.cents(10, 90000),
                style=style,
                button=button,
                align=v.pick(("left", "middle")),
                share=v.random.uniform(0.2, 0.95),
                lines=(f"{title}更新于{v.date()}",),
            ),
            *parts,
            b.Note(text=f"{brand.app}为您服务\n{brand.company}"),
        ),
    )


def _other_list(v: Values, brand: Brand) -> b.Page:
    """Settings or a homepage under another brand, with other entries."""
    colours = theme("#1677FF", "#4C9BFF") if v.chance(0.5) else _shifted(v)
    if v.chance(0.5):
        names = v.random.sample(
            (
                "修改手机号",
                "登录密码",
                "设备管理",
                "语言",
                "字体大小",
                "推送设置",
                "权限管理",
                "收货地址",
                "发票管理",
                "青少年模式",
                "注销账号",
                "意见反馈",
                "亲情账号",
                "自动续费",
            ),
            10,
        )
        rows = tuple(b.Row(label=name, arrow=True) for name in names)
        about = b.Row(label=f"关于{brand.name}", value=f"{v.digits(1)}.{v.digits(1)}", arrow=True)
        return b.Page(
            theme=replace(colours, radius=8),
            title=v.pick(("设置", "账号与设置", "系统设置")),
            blocks=(
                b.Card((b.Person(name=v.name, sub=v.phone()),), flat=True),
                b.Card((b.Rows(rows[:4]),), flat=True),
                b.Card((b.Rows(rows[4:8]),), flat=True),
                b.Card((b.Rows((*rows[8:], about)),), flat=True),
                b.Button(text="切换账号", kind="outline"),
            ),
        )
    entries = (
        ("cart", "我的订单"),
        ("heart", "收藏夹"),
        ("ticket", "红包卡券"),
        ("pin", "地址管理"),
        ("chat", "联系客服"),
        ("star", "我的评价"),
        ("wallet", "钱包"),
        ("gift", "邀请有礼"),
    )
    rows = tuple(b.Row(label=name, icon=icon, arrow=True) for icon, name in entries)
    return b.Page(
        theme=colours,
        title="我的",
        title_at="left",
        back=False,
        action="gear",
        ground=(colours.accent, mix(colours.accent, (255, 255, 255), 0.3)),
        ground_h=100,
        blocks=(
            b.Person(name=v.name, sub=f"ID {v.digits(8)}", tag="会员", more="编辑资料"),
            b.Card(
                (b.Pairs((("关注", v.digits(2)), ("粉丝", v.digits(3)), ("足迹", v.digits(2)))),)
            ),
            b.Card((b.Rows(rows[:5]),)),
            promotion(v),
            b.Card((b.Rows(rows[5:]),)),
            b.Note(text=brand.company),
        ),
        foot=b.TabBar(
            (("home", "首页"), ("search", "发现"), ("cart", "购物车"), ("user", "我的")), 3
        ),
    )
