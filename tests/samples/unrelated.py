"""Screens that have nothing to do with finance: `other_unrelated`.

Some are pages of blocks like the others; some are scenes drawn at once on the canvas.
"""

from collections.abc import Callable

from tests.samples import blocks as b
from tests.samples.canvas import SCREEN_DP, Canvas
from tests.samples.screen import Shot, status_bar
from tests.samples.theme import WHITE, mix, rgb, theme
from tests.samples.unrelated_pictures import TALK, lock_screen, photo, video
from tests.samples.values import CITIES, ROADS, Values

Scene = Callable[[Values, Canvas, Shot], None]

PLAIN = theme("#07A35A", "#4CC88A", bg=rgb("#EDEDED"))
_GOODS = (
    "纯棉短袖T恤男夏季新款",
    "无线蓝牙耳机降噪长续航",
    "家用多功能料理锅",
    "加厚抽纸整箱30包",
    "儿童益智积木玩具",
    "运动跑鞋透气轻便",
    "不锈钢保温杯大容量",
    "新鲜水果脐橙5斤装",
)


def chat(v: Values, c: Canvas, shot: Shot) -> None:
    """A conversation."""
    c.rect(0, 0, SCREEN_DP, 76, mix(c.theme.bg, c.theme.card, 0.3))
    status_bar(c, shot, c.theme.ink)
    c.icon("back", 22, 53, 20, c.theme.ink, weight=2)
    c.text(
        180,
        40,
        v.pick((v.name, "相亲相爱一家人", "项目讨论组", "妈妈")),
        17,
        bold=True,
        align="middle",
    )
    c.icon("more", 336, 53, 20, c.theme.ink)
    y = 92.0
    colours = [rgb(v.pick(("#5B8CFF", "#FFB03B", "#28C3A6", "#F77BA8"))) for _ in range(2)]
    while y < c.height_dp - 150:
        mine, text = v.chance(0.45), v.pick(TALK)
        wide = min(220.0, c.text_width(text, 15.5) + 24)
        with c.measuring():
            high = c.wrapped(0, 0, text, 15.5, max_w=wide - 20) + 18
        x = SCREEN_DP - 62 - wide if mine else 62.0
        ground = rgb("#95EC69") if mine else c.theme.card
        c.rect(x, y, wide, high, ground, radius=6)
        ink = rgb("#1F2329") if mine else c.theme.ink
        c.wrapped(x + 12, y + 9, text, 15.5, ink, max_w=wide - 20)
        c.rect(SCREEN_DP - 52 if mine else 12, y, 40, 40, colours[mine], radius=6)
        c.icon("user", SCREEN_DP - 32 if mine else 32, y + 20, 26, WHITE)
        y += max(high, 40) + 16
        if v.chance(0.2):
            c.text(180, y, v.time(), 12, c.theme.sub, align="middle")
            y += 28
    foot = c.height_dp - 76
    c.rect(0, foot, SCREEN_DP, 80, mix(c.theme.bg, c.theme.card, 0.5))
    c.icon("mic", 26, foot + 28, 24, c.theme.ink)
    c.rect(48, foot + 9, 236, 38, c.theme.card, radius=6)
    c.icon("heart", 306, foot + 28, 24, c.theme.ink)
    c.icon("plus", 338, foot + 28, 24, c.theme.ink)


def weather(v: Values, c: Canvas, shot: Shot) -> None:
    """The weather of a city."""
    top, end = v.random.choice(
        (("#3A7BD5", "#8FC6F5"), ("#4B5A75", "#98A8BE"), ("#F08A4B", "#F5C77E"))
    )
    c.rect(0, 0, SCREEN_DP, c.height_dp + 1, rgb(top), to=rgb(end))
    status_bar(c, shot, WHITE)
    sky, now = v.pick(("多云", "晴", "小雨", "阴", "雷阵雨")), v.random.randint(-4, 36)
    c.text(180, 66, v.random.choice(CITIES)[1], 25, WHITE, align="middle")
    c.text(180, 98, f"{now}°", 82, WHITE, align="middle")
    c.text(180, 214, f"{sky}  最高{now + 4}° 最低{now - 6}°", 16, WHITE, align="middle")
    c.text(
        180,
        242,
        f"空气{v.pick(('优', '良', '轻度污染'))} {v.random.randint(20, 120)}",
        14,
        WHITE,
        align="middle",
    )
    c.rect(14, 290, 332, 110, WHITE, radius=14, alpha=0.18)
    for hour in range(6):
        x = 42 + hour * 55
        c.text(x, 302, f"{9 + hour * 2}时", 13, WHITE, align="middle")
        c.disc(x, 345, 10, rgb("#FFD75E") if v.chance(0.5) else rgb("#E8EEF5"))
        c.text(x, 366, f"{now + v.random.randint(-3, 3)}°", 15, WHITE, align="middle")
    c.rect(14, 416, 332, 300, WHITE, radius=14, alpha=0.18)
    for day, name in enumerate(("今天", "周二", "周三", "周四", "周五", "周六", "周日")):
        y = 424 + day * 41
        c.text(30, y + 8, name, 15, WHITE)
        c.text(120, y + 8, v.pick(("晴", "多云", "小雨")), 15, WHITE)
        c.rect(196, y + 17, 80, 5, WHITE, radius=2.5, alpha=0.4)
        c.rect(206 + v.random.randint(0, 20), y + 17, 46, 5, rgb("#FFD75E"), radius=2.5)
        c.text(
            330, y + 8, f"{now - 6}° / {now + v.random.randint(1, 5)}°", 13, WHITE, align="right"
        )


def city_map(v: Values, c: Canvas, shot: Shot) -> None:
    """A map with a route."""
    ground = rgb("#1E2430") if c.theme.dark else rgb("#EEF0EA")
    c.rect(0, 0, SCREEN_DP, c.height_dp + 1, ground)
    for _ in range(9):
        x, y = v.random.uniform(-40, 330), v.random.uniform(0, c.height_dp)
        fill = mix(ground, rgb(v.pick(("#B7DDA8", "#A9CDEF", "#DDD6C6"))), 0.7)
        c.rect(x, y, v.random.uniform(50, 130), v.random.uniform(40, 130), fill, radius=6)
    road = mix(ground, WHITE, 0.12) if c.theme.dark else WHITE
    names: list[float] = []
    for _ in range(13):
        x = v.random.uniform(0, 360)
        y = v.random.uniform(0, c.height_dp)
        width = v.random.choice((3, 5, 9))
        if v.chance(0.5):
            c.line([(x, 0), (x + v.random.uniform(-70, 70), c.height_dp)], road, width)
        else:
            c.line([(0, y), (360, y + v.random.uniform(-90, 90))], road, width)
            if all(abs(y - named) > 40 for named in names):
                names.append(y)
                c.text(v.random.uniform(20, 260), y + 4, v.pick(ROADS), 11, c.theme.sub)
    route, x, y = [], 60.0, c.height_dp * 0.72
    for _ in range(6):
        route.append((x, y))
        x, y = x + v.random.uniform(20, 60), y - v.random.uniform(20, 80)
    c.line(route, rgb("#2F7BFF"), 6)
    c.icon("pin", route[-1][0], route[-1][1] - 14, 34, rgb("#E5383B"), weight=2.4)
    c.disc(route[0][0], route[0][1], 8, rgb("#12A15E"))
    c.rect(14, 44, 332, 46, c.theme.card, radius=12)
    c.icon("search", 36, 67, 18, c.theme.sub)
    c.text(54, 56, "搜索地点、公交、地铁", 15, c.theme.sub)
    status_bar(c, shot, c.theme.ink)
    y = c.height_dp - 150
    c.rect(0, y, SCREEN_DP, 160, c.theme.card, radius=16)
    c.text(20, y + 18, f"{v.random.randint(8, 70)}分钟", 23, bold=True)
    c.text(
        20,
        y + 54,
        f"{v.random.randint(2, 40)}.{v.digits(1)}公里 途经{v.pick(ROADS)}",
        14,
        c.theme.sub,
    )
    c.rect(220, y + 26, 120, 44, rgb("#2F7BFF"), radius=22)
    c.text(280, y + 37, "开始导航", 15, WHITE, bold=True, align="middle")


def loading(v: Values, c: Canvas, shot: Shot) -> None:
    """A page that is still loading."""
    c.rect(0, 0, SCREEN_DP, c.height_dp + 1, c.theme.card)
    status_bar(c, shot, c.theme.ink)
    style = v.random.randrange(3)
    if style == 0:
        c.gauge(180, c.height_dp * 0.45, 60, 0.7, c.theme.faint)
        c.text(180, c.height_dp * 0.45 + 46, "加载中...", 14, c.theme.sub, align="middle")
    elif style == 1:
        bone = mix(c.theme.card, c.theme.ink, 0.07)
        for number in range(8):
            c.rect(16, 60 + number * 86, 68, 68, bone, radius=8)
            c.rect(98, 66 + number * 86, 220, 16, bone, radius=4)
            c.rect(98, 94 + number * 86, v.random.uniform(80, 200), 14, bone, radius=4)


def shop(v: Values, shot: Shot) -> b.Page:
    """Goods of a shop."""
    items = tuple(
        b.Item(
            title=name,
            sub=f"已售{v.digits(4)}+ 好评率{v.random.randint(90, 99)}%",
            icon="cart",
            right=f"¥{v.random.randint(9, 399)}.9",
            right_colour=rgb("#FF5000"),
            colour=rgb(v.pick(("#FF5000", "#5B8CFF", "#28C3A6", "#B36BFF"))),
        )
        for name in v.random.sample(_GOODS, 7)
    )
    return b.Page(
        theme=theme("#FF5000", "#FF8A3D"),
        title="购物",
        title_at="left",
        back=False,
        action="scan",
        blocks=(
            b.Search("搜索商品"),
            b.Card(
                (
                    b.Grid(
                        items=(
                            ("phone", "数码"),
                            ("home", "家居"),
                            ("heart", "美妆"),
                            ("gift", "礼品"),
                            ("cart", "超市"),
                            ("star", "品牌"),
                            ("clock", "秒杀"),
                            ("more", "更多"),
                        ),
                        coloured=True,
                    ),
                )
            ),
            b.Card((b.Heading(text="猜你喜欢"), *items)),
        ),
        foot=b.TabBar((("home", "首页"), ("play", "逛逛"), ("cart", "购物车"), ("user", "我的"))),
    )


def phone_settings(v: Values, shot: Shot) -> b.Page:
    """The settings of the phone itself."""

    def row(icon: str, label: str, value: str = "") -> b.Row:
        return b.Row(label=label, icon=icon, value=value, arrow=True)

    return b.Page(
        theme=theme("#3478F6", "#5E9BFF", bg=rgb("#F2F2F7")),
        title="设置",
        title_at="left",
        back=False,
        action="search",
        blocks=(
            b.Card(
                (
                    b.Rows(
                        (
                            row("wifi", "WLAN", v.pick(("Home-5G", "TP-LINK", "未连接"))),
                            row("phone", "移动网络"),
                            row("scan", "蓝牙", "已开启"),
                            row("lock", "飞行模式"),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            row("star", "显示与亮度"),
                            row("bell", "声音与振动"),
                            row("chat", "通知与状态栏"),
                            row("home", "桌面与壁纸"),
                        )
                    ),
                )
            ),
            b.Card(
                (
                    b.Rows(
                        (
                            row("shield", "隐私与安全"),
                            row("card", "电池", f"{shot.battery}%"),
                            row("wallet", "存储空间"),
                            row("user", "账号与同步"),
                            row("info", "关于手机"),
                        )
                    ),
                )
            ),
        ),
    )


SCENES: tuple[Scene, ...] = (chat, weather, city_map, photo, lock_screen, video, loading)
PAGES: tuple[Callable[[Values, Shot], b.Page], ...] = (shop, phone_settings)
