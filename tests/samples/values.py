"""Personal data of users: names, masked numbers, addresses, amounts, dates.

Everything is drawn from one seeded source, in the order in which a page asks for it, so a
page and its white-label twin show the same person.
"""

import random

SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾萧田董潘袁蔡余于叶"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰梅红建国文博子轩雨欣浩然思远佳怡梓涵"
CITIES = (
    ("江苏省", "南京市", "鼓楼区"),
    ("江苏省", "苏州市", "吴中区"),
    ("浙江省", "杭州市", "余杭区"),
    ("浙江省", "宁波市", "鄞州区"),
    ("广东省", "广州市", "天河区"),
    ("广东省", "深圳市", "龙岗区"),
    ("广东省", "佛山市", "南海区"),
    ("四川省", "成都市", "武侯区"),
    ("湖北省", "武汉市", "洪山区"),
    ("湖南省", "长沙市", "岳麓区"),
    ("河南省", "郑州市", "金水区"),
    ("山东省", "青岛市", "市北区"),
    ("陕西省", "西安市", "雁塔区"),
    ("福建省", "厦门市", "思明区"),
    ("安徽省", "合肥市", "蜀山区"),
    ("辽宁省", "大连市", "甘井子区"),
    ("江西省", "南昌市", "青山湖区"),
    ("广西", "南宁市", "青秀区"),
)
ROADS = (
    "人民路",
    "解放大道",
    "文昌街",
    "建设东路",
    "中山北路",
    "长江路",
    "学府街",
    "新华路",
    "滨河路",
    "科技园路",
    "银杏街",
    "和平里",
)
ESTATES = ("阳光花园", "锦绣家园", "翠湖小区", "金域华府", "绿洲新城", "幸福里", "万象城", "书香苑")
BANKS = (
    "招商银行",
    "工商银行",
    "建设银行",
    "农业银行",
    "中国银行",
    "交通银行",
    "平安银行",
    "邮储银行",
    "浦发银行",
    "中信银行",
    "光大银行",
    "民生银行",
    "兴业银行",
    "微众银行",
    "网商银行",
)
JOBS = (
    "企业职员",
    "教师",
    "个体经营",
    "公务员",
    "自由职业",
    "专业技术人员",
    "服务业人员",
    "生产制造人员",
    "销售人员",
    "司机",
    "医护人员",
    "程序员",
)
SCHOOLS = ("本科", "大专", "硕士及以上", "高中/中专", "大学本科", "初中及以下", "博士")
MARRIAGES = ("未婚", "已婚", "已婚有子女", "离异", "已婚无子女", "其他")
INCOMES = (
    "3000-5000元",
    "5000-8000元",
    "8000-12000元",
    "12000-20000元",
    "20000元以上",
    "3000元以下",
    "5001-10000元",
    "10001-15000元",
)
KIN = ("父母", "配偶", "兄弟姐妹", "朋友", "同事", "子女", "父亲", "母亲")
FIRMS = (
    "科技有限公司",
    "贸易有限公司",
    "餐饮管理有限公司",
    "物流有限公司",
    "建筑工程有限公司",
    "实验小学",
    "人民医院",
    "信息技术有限公司",
)
PURPOSES = ("日常消费", "装修", "教育培训", "旅游", "购买家电", "医疗健康", "婚庆", "个人综合消费")


class Values:
    """A user, drawn from a seed that may be any text."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.surname = self.random.choice(SURNAMES)
        self.given = "".join(self.random.sample(GIVEN, self.random.choice((1, 2, 2))))
        self.city = self.random.choice(CITIES)

    def pick(self, choices: "tuple[str, ...] | list[str] | str") -> str:
        """Draws one of several texts, or one character of a text."""
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        """Draws True with a probability of `share`, 0..1."""
        return self.random.random() < share

    def digits(self, count: int) -> str:
        """Random digits, not beginning with zero."""
        return str(self.random.randint(10 ** (count - 1), 10**count - 1))

    @property
    def name(self) -> str:
        """The whole name."""
        return self.surname + self.given

    @property
    def masked_name(self) -> str:
        """The masked name, as most apps show it: `*` for all but the last character."""
        return "*" * len(self.given) + self.given[-1]

    def other_name(self) -> str:
        """The masked name of another person."""
        return self.pick(SURNAMES) + "*" * self.random.choice((1, 2))

    def identity(self) -> str:
        """A masked identity number."""
        tail = self.digits(3) + self.pick("0123456789X")
        style = self.random.randrange(3)
        if style == 0:
            return self.digits(1) + "*" * 16 + tail[-1]
        return self.digits(3 if style == 1 else 4) + "*" * (11 if style == 1 else 10) + tail

    def phone(self) -> str:
        """A masked phone number."""
        return self.pick(("13", "15", "17", "18", "19")) + self.digits(1) + "****" + self.digits(4)

    def bank_card(self) -> str:
        """A payout card; sometimes of a bank that is a known brand itself."""
        return f"{self.pick(BANKS)}({self.digits(4)})"

    def region(self) -> str:
        """Province, city and district."""
        return " ".join(self.city)

    def street(self) -> str:
        """Street, number and flat."""
        where = f"{self.pick(ROADS)}{self.random.randint(1, 399)}号{self.pick(ESTATES)}"
        return where + f"{self.random.randint(1, 28)}栋{self.random.randint(101, 3204)}室"

    def firm(self) -> str:
        """An employer."""
        return (
            self.city[1][:2]
            + self.pick("鑫华盛恒瑞博远宏")
            + self.pick("达源泰通创信合美")
            + self.pick(FIRMS)
        )

    def amount(self, low: int, high: int, step: int = 100) -> str:
        """An amount such as `36,500.00`."""
        return f"{self.random.randrange(low, high + 1, step):,}.00"

    def cents(self, low: int, high: int) -> str:
        """An amount with odd cents such as `1,208.37`."""
        return f"{self.random.randint(low * 100, high * 100) / 100:,.2f}"

    def rate(self, low: float = 7.2, high: float = 23.9) -> str:
        """An interest rate a year in percent."""
        return f"{self.random.uniform(low, high):.{self.random.choice((1, 2))}f}%"

    def date(self, *, sep: str = "-", years: tuple[int, int] = (2023, 2026)) -> str:
        """A date."""
        year, month = self.random.randint(*years), self.random.randint(1, 12)
        return f"{year}{sep}{month:02d}{sep}{self.random.randint(1, 28):02d}"

    def time(self) -> str:
        """A time of day."""
        return f"{self.random.randint(0, 23):02d}:{self.random.randint(0, 59):02d}"
