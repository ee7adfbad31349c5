"""Screens filled by a picture: a photo, the lock screen, a video."""

from PIL import Image, ImageFilter

from tests.samples.canvas import SCREEN_DP, Canvas
from tests.samples.screen import Shot, status_bar
from tests.samples.theme import BLACK, WHITE, mix, rgb
from tests.samples.values import Values

TALK = (
    "在吗？",
    "晚上一起吃饭吧",
    "好的，几点？",
    "我刚到公司楼下",
    "明天记得带雨伞",
    "哈哈哈太好笑了",
    "文件发你邮箱了",
    "周末去爬山怎么样",
    "收到，谢谢！",
    "路上有点堵，晚十分钟到",
    "孩子作业写完了吗",
    "照片拍得真好看",
)


def _landscape(v: Values, c: Canvas) -> None:
    """A picture like a photo: sky, hills, grain."""
    w, h = 90, round(90 * c.image.height / c.image.width)
    small = Canvas(w * 4, h * 4, c.theme)
    high = small.height_dp
    sky = rgb(v.pick(("#6FA8DC", "#F2A97B", "#34495E", "#BFD7EA")))
    small.rect(0, 0, SCREEN_DP, high + 2, sky, to=mix(sky, rgb("#FFF1D6"), 0.7))
    small.disc(v.random.uniform(60, 300), high * v.random.uniform(0.28, 0.38), 26, rgb("#FFF4CF"))
    land = rgb(v.pick(("#4B6B4A", "#3E5C76", "#7A5C45", "#566B3A")))
    for layer in range(5):
        level, slope, points = high * (0.42 + layer * 0.11), 0.0, [(0.0, high + 4)]
        for step in range(49):
            slope = slope * 0.8 + v.random.gauss(0, 4.5 - layer * 0.5)
            level += slope - (level - high * (0.42 + layer * 0.11)) * 0.06
            points.append((step * 7.5, level))
        haze = mix(land, sky, 0.55 - layer * 0.14) if layer < 4 else mix(land, BLACK, 0.35)
        small.polygon([*points, (360.0, high + 4)], haze)
    picture = small.image.filter(ImageFilter.GaussianBlur(1))
    tile = bytes(v.random.randrange(80, 176) for _ in range(120 * 240))
    grain = Image.frombytes("L", (120, 240), tile).resize((c.image.width, c.image.height))
    picture = picture.resize((c.image.width, c.image.height), Image.Resampling.BICUBIC)
    c.image.paste(Image.blend(picture, Image.merge("RGB", (grain, grain, grain)), 0.06))


def photo(v: Values, c: Canvas, shot: Shot) -> None:
    """A photo in the gallery app."""
    _landscape(v, c)
    if v.chance(0.6):
        status_bar(c, shot, WHITE)
        c.text(180, 44, f"{v.date(sep='.')} {v.time()}", 15, WHITE, align="middle")


def lock_screen(v: Values, c: Canvas, shot: Shot) -> None:
    """A locked phone with its clock and messages."""
    _landscape(v, c)
    status_bar(c, shot, WHITE)
    c.icon("lock", 180, 62, 22, WHITE)
    c.text(180, 78, v.time(), 76, WHITE, bold=True, align="middle")
    c.text(
        180,
        190,
        f"{v.random.randint(1, 12)}月{v.random.randint(1, 28)}日 星期{v.pick('一二三四五六日')}",
        17,
        WHITE,
        align="middle",
    )
    for number in range(v.random.randint(0, 3)):
        y = c.height_dp * 0.5 + number * 78
        c.rect(14, y, 332, 68, rgb("#F4F4F6"), radius=16, alpha=0.85)
        c.rect(26, y + 16, 36, 36, rgb(v.pick(("#07C160", "#2F7BFF", "#FF5B5B"))), radius=9)
        c.text(74, y + 11, v.pick(("信息", "日历", "邮件", "备忘录")), 14, BLACK, bold=True)
        c.text(74, y + 34, v.pick(TALK), 14, rgb("#333333"), max_w=250)


def video(v: Values, c: Canvas, shot: Shot) -> None:
    """A short video with its buttons."""
    _landscape(v, c)
    status_bar(c, shot, WHITE)
    for number, name in enumerate(("关注", "推荐", "同城")):
        c.text(110 + number * 70, 42, name, 16, WHITE, bold=number == 1, align="middle")
    for number, icon in enumerate(("heart", "chat", "star", "next")):
        y = c.height_dp * 0.5 + number * 66
        c.icon(icon, 330, y, 34, WHITE, weight=2)
        c.text(330, y + 20, f"{v.digits(2)}.{v.digits(1)}万", 12, WHITE, align="middle")
    foot = c.height_dp - 150
    c.text(16, foot, f"@{v.name}的日常", 16, WHITE, bold=True)
    c.wrapped(16, foot + 26, f"{v.pick(TALK)} #生活记录 #旅行", 14, WHITE, max_w=270)
    c.rect(0, c.height_dp - 62, SCREEN_DP, 64, BLACK)
    for number, name in enumerate(("首页", "朋友", "消息", "我")):
        c.text(45 + number * 90, c.height_dp - 50, name, 15, WHITE, align="middle")
