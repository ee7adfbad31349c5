"""Overlays of a page: dialogues, sheets, keyboards, toasts, promotions.

Each takes the finished screen and the height above the system bar, and draws over it.
"""

from collections.abc import Callable, Mapping

from tests.samples.canvas import SCREEN_DP, Canvas
from tests.samples.screen import Overlay
from tests.samples.theme import BLACK, WHITE, mix, rgb
from tests.samples.values import BANKS, Values

_QUESTIONS = (
    ("温馨提示", "您有未保存的信息，确定要离开当前页面吗？", "离开", "继续填写"),
    ("开启消息通知", "及时获取还款提醒与优惠活动", "暂不", "去开启"),
    ("发现新版本", "优化使用体验，修复已知问题", "稍后再说", "立即更新"),
    ("位置信息授权", "用于保障您的账户安全", "拒绝", "允许"),
    ("提示", "网络开小差了，请稍后重试", "取消", "重试"),
)
_TOASTS = (
    "加载中...",
    "保存成功",
    "网络异常，请重试",
    "已复制",
    "请先勾选协议",
    "截屏已保存",
    "信息已更新",
)


def _dim(c: Canvas) -> None:
    c.rect(0, 0, SCREEN_DP, c.height_dp + 1, BLACK, alpha=0.55)


def dialogue(v: Values) -> Overlay:
    """A dialogue with a question and two buttons."""
    title, text, no, yes = v.random.choice(_QUESTIONS)

    def draw(c: Canvas, bottom: float) -> None:
        _dim(c)
        high = 96 + c.line_height(17) + 2 * c.line_height(14)
        y = bottom / 2 - high / 2
        c.rect(40, y, 280, high, c.theme.card, radius=14)
        c.text(180, y + 20, title, 17, bold=True, align="middle")
        c.wrapped(60, y + 28 + c.line_height(17), text, 14, c.theme.sub, max_w=240, align="middle")
        c.rect(40, y + high - 48, 280, 0.8, c.theme.line)
        c.rect(180, y + high - 48, 0.8, 48, c.theme.line)
        at = y + high - 24 - c.line_height(16) / 2
        c.text(110, at, no, 16, c.theme.sub, align="middle", max_w=130)
        c.text(250, at, yes, 16, c.theme.accent, bold=True, align="middle", max_w=130)

    return draw


def sheet(v: Values) -> Overlay:
    """A bottom sheet with bank cards or choices."""
    banks = v.random.sample(BANKS, 3)
    rows = [f"{bank} 储蓄卡({v.digits(4)})" for bank in banks]
    title = v.pick(("选择收款账户", "选择银行卡", "选择还款账户"))
    chosen = v.random.randrange(3)

    def draw(c: Canvas, bottom: float) -> None:
        _dim(c)
        top = bottom - 70 - 54 * len(rows)
        c.rect(0, top, SCREEN_DP, c.height_dp - top + 20, c.theme.card, radius=16)
        c.text(180, top + 16, title, 17, bold=True, align="middle")
        c.icon("close", 336, top + 28, 16, c.theme.sub)
        for number, row in enumerate(rows):
            y = top + 58 + 54 * number
            c.disc(34, y + 22, 14, (mix(rgb("#D43C33"), rgb("#2A6AD8"), number / 2)))
            c.text(34, y + 22 - c.line_height(12) / 2, row[0], 12, WHITE, align="middle", bold=True)
            c.text(58, y + 22 - c.line_height(15) / 2, row, 15, max_w=240)
            if number == chosen:
                c.icon("check", 332, y + 22, 18, c.theme.accent, weight=2.2)
            c.rect(58, y + 48, SCREEN_DP - 58, 0.7, c.theme.line)

    return draw


def keyboard(v: Values) -> Overlay:
    """A numeric keyboard."""
    done = v.pick(("完成", "确定"))

    def draw(c: Canvas, bottom: float) -> None:
        scale, c.font_scale = c.font_scale, 1.0
        ground = mix(c.theme.bg, c.theme.ink, 0.12)
        top = bottom - 236
        c.rect(0, top, SCREEN_DP, c.height_dp - top + 1, ground)
        c.rect(0, top, SCREEN_DP, 34, c.theme.card)
        c.text(344, top + 8, done, 14, c.theme.accent, align="right", bold=True)
        c.text(180, top + 9, "安全键盘", 12, c.theme.sub, align="middle")
        for number, key in enumerate("123456789X0"):
            x, y = 6 + 117 * (number % 3), top + 42 + 49 * (number // 3)
            c.rect(x, y, 113, 44, c.theme.card, radius=6)
            c.text(x + 56, y + 22 - c.line_height(21) / 2, key, 21, align="middle")
        c.icon("back", 296, top + 42 + 147 + 22, 22, c.theme.ink)
        c.font_scale = scale

    return draw


def toast(v: Values) -> Overlay:
    """A toast: a short message in the middle of the screen."""
    text = v.pick(_TOASTS)

    def draw(c: Canvas, bottom: float) -> None:
        wide = c.text_width(text, 14.5) + 44
        y = bottom * 0.48
        c.rect(180 - wide / 2, y, wide, 44, rgb("#202226"), radius=10, alpha=0.86)
        c.text(180, y + 22 - c.line_height(14.5) / 2, text, 14.5, WHITE, align="middle")

    return draw


def promotion(v: Values) -> Overlay:
    """A coupon in front of the page, with a close button."""
    value, what = v.pick(("20", "38", "66", "88")), v.pick(("还款立减券", "免息优惠券", "限时红包"))

    def draw(c: Canvas, bottom: float) -> None:
        _dim(c)
        y = bottom * 0.27
        c.rect(56, y, 248, 286, rgb("#FF5A45"), to=rgb("#E1251B"), radius=20)
        c.text(180, y + 22, "恭喜您获得", 18, rgb("#FFE9C8"), bold=True, align="middle")
        c.rect(78, y + 70, 204, 118, rgb("#FFF6E6"), radius=12)
        c.text(180, y + 76, f"¥{value}", 42, rgb("#E1251B"), bold=True, align="middle")
        c.text(180, y + 146, what, 15, rgb("#8A4B2A"), align="middle", max_w=190)
        c.rect(98, y + 216, 164, 44, rgb("#FFD98A"), to=rgb("#FFB84D"), radius=22)
        c.text(
            180,
            y + 238 - c.line_height(17) / 2,
            "立即使用",
            17,
            rgb("#A6331B"),
            bold=True,
            align="middle",
        )
        c.disc(180, y + 326, 17, WHITE, alpha=0.3)
        c.icon("close", 180, y + 326, 17, WHITE)

    return draw


OVERLAYS: Mapping[str, Callable[[Values], Overlay]] = {
    "dialogue": dialogue,
    "sheet": sheet,
    "keyboard": keyboard,
    "toast": toast,
    "promotion": promotion,
}
