"""Advertising banners, which change from day to day and do not identify a page."""

from tests.samples import blocks as b
from tests.samples.theme import rgb
from tests.samples.values import Values

PROMOTIONS = (
    ("新客专享7天免息", "首次借款立减利息", "领取"),
    ("限时降息福利", "年化利率最低享7折", "去看看"),
    ("邀请好友得现金", "每邀1人最高得88元", "去邀请"),
    ("提额礼包待领取", "完成任务额度再升级", "去提额"),
    ("周三会员日", "抽免息券赢好礼", ""),
    ("开学季福利来袭", "最高30天免息券", ""),
    ("年终狂欢借钱节", "利息低至5折起", "立即抢"),
    ("签到领金币", "连续7天兑好礼", "签到"),
    ("信用守护计划", "按时还款额度涨不停", ""),
    ("国庆出行不用愁", "万元备用金随借随还", "查看"),
)
_GROUNDS = (
    ("#FF8A5C", "#FF5B5B"),
    ("#5B8CFF", "#7A5BFF"),
    ("#28C3A6", "#1FA2D8"),
    ("#FFB03B", "#FF7A30"),
    ("#F77BA8", "#E0518F"),
    ("#6E7BFA", "#3B56D9"),
)
_ICONS = ("gift", "ticket", "star", "heart", "up", "wallet")


def promotion(v: Values) -> b.Banner:
    """A random banner."""
    title, sub, button = v.random.choice(PROMOTIONS)
    first, second = v.random.choice(_GROUNDS)
    return b.Banner(
        title=title, sub=sub, button=button, icon=v.pick(_ICONS), colours=(rgb(first), rgb(second))
    )
