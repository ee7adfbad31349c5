"""Personal-information pages: seven apps, one layout, nearly the same words.

The apps differ in a few words, in what they ask for, in a brand mention and in small traits of
design. That is what makes these pages the hardest of all.
"""

from collections.abc import Mapping

from tests.samples.forms import Form
from tests.samples.theme import theme

FORMS: Mapping[str, Form] = {
    "ayh_user_info": Form(
        theme=theme("#FF6B3D", "#FF9154"),
        title="个人信息",
        bar=True,
        notice="{name}将严格保护您的个人信息安全",
        groups=(
            ("身份信息", (("姓名", "name"), ("证件号码", "id"), ("手机号", "phone"))),
            (
                "基本信息",
                (
                    ("学历", "school"),
                    ("婚姻状况", "marriage"),
                    ("居住地址", "region"),
                    ("详细地址", "street"),
                    ("职业", "job"),
                    ("月收入", "income"),
                ),
            ),
            ("紧急联系人", (("联系人关系", "kin"), ("联系人姓名", "other"), ("手机号", "phone"))),
        ),
        button="保存",
        small="{company}",
    ),
    "dxm_user_info": Form(
        theme=theme("#FF4D3F", "#FF7A5C", radius=10),
        title="个人信息",
        intro="完善个人信息，有助于提升{name}额度",
        groups=(
            (
                "身份信息",
                (("姓名", "name"), ("身份证号", "id"), ("手机号", "phone"), ("证件有效期", "long")),
            ),
            (
                "个人资料",
                (
                    ("学历", "school"),
                    ("婚姻状况", "marriage"),
                    ("居住地址", "region"),
                    ("职业", "job"),
                    ("月收入", "income"),
                    ("单位名称", "firm"),
                ),
            ),
            ("紧急联系人", (("联系人关系", "kin"), ("姓名", "other"), ("手机号", "phone"))),
        ),
        button="提交",
        small="{app}承诺保障您的信息安全",
    ),
    "dyfxj_user_info": Form(
        theme=theme("#FE2C55", "#FF5C7A", radius=8, pill=False),
        title="填写个人信息",
        left=True,
        steps=("实名认证", "个人信息", "获取额度"),
        groups=(
            (
                "基本信息",
                (
                    ("姓名", "name"),
                    ("证件号码", "id"),
                    ("学历", "school"),
                    ("婚姻状况", "marriage"),
                    ("月收入", "income"),
                    ("职业", "job"),
                ),
            ),
            ("居住信息", (("居住地址", "region"), ("详细地址", "street"))),
            ("紧急联系人", (("与本人关系", "kin"), ("联系人姓名", "other"), ("手机号", "phone"))),
        ),
        button="下一步",
        small="我已阅读并同意《{name}个人信息授权书》《征信授权书》",
        tick=True,
    ),
    "jdjr_user_info": Form(
        theme=theme("#E1251B", "#FF5A45", radius=10),
        title="个人信息",
        bar=True,
        groups=(
            (
                "基本信息",
                (
                    ("姓名", "name"),
                    ("证件号码", "id"),
                    ("手机号码", "phone"),
                    ("学历", "school"),
                    ("婚姻状况", "marriage"),
                    ("居住地址", "region"),
                ),
            ),
            ("工作信息", (("职业", "job"), ("单位名称", "firm"), ("月收入", "income"))),
            ("紧急联系人", (("关系", "kin"), ("姓名", "other"), ("手机号码", "phone"))),
        ),
        button="保存",
        small="以上信息仅用于{app}服务的评估",
    ),
    "mtshf_user_info": Form(
        theme=theme("#FFC300", "#FFD84D", on_accent=(34, 34, 34), radius=14),
        title="补充个人信息",
        intro="请补充真实有效的信息，信息越完整，{name}额度越高",
        flat=True,
        left=True,
        groups=(
            (
                "基本信息",
                (
                    ("姓名", "name"),
                    ("证件号码", "id"),
                    ("学历", "school"),
                    ("婚姻状况", "marriage"),
                    ("居住地址", "region"),
                    ("详细地址", "street"),
                ),
            ),
            ("职业信息", (("职业", "job"), ("单位名称", "firm"), ("月收入", "income"))),
            (
                "紧急联系人",
                (("联系人关系", "kin"), ("联系人姓名", "other"), ("联系人手机号", "phone")),
            ),
        ),
        button="提交",
        small="我已阅读并同意《{app}个人信息查询授权书》",
        tick=True,
    ),
    "ppd_user_info": Form(
        theme=theme("#2F7BFF", "#5AA2FF", radius=10),
        title="个人信息",
        action="客服",
        bar=True,
        notice="信息仅用于{name}借款审核，全程加密",
        groups=(
            (
                "基本信息",
                (
                    ("姓名", "name"),
                    ("身份证号", "id"),
                    ("手机号", "phone"),
                    ("学历", "school"),
                    ("婚姻状况", "marriage"),
                    ("居住地址", "region"),
                ),
            ),
            ("工作信息", (("职业", "job"), ("月收入", "income"), ("工作年限", "time"))),
            ("紧急联系人", (("联系人关系", "kin"), ("联系人姓名", "other"), ("手机号", "phone"))),
        ),
        button="保存并继续",
        small="{company}",
    ),
    "wld_user_info": Form(
        theme=theme("#3478F6", "#5E9BFF", radius=6, pill=False),
        title="个人信息",
        flat=True,
        groups=(
            (
                "",
                (("姓名", "name"), ("证件号码", "id"), ("证件有效期", "long"), ("手机号", "phone")),
            ),
            (
                "",
                (
                    ("学历", "school"),
                    ("婚姻状况", "marriage"),
                    ("居住地址", "region"),
                    ("详细地址", "street"),
                    ("职业", "job"),
                    ("单位名称", "firm"),
                    ("月收入", "income"),
                ),
            ),
            ("", (("收款银行卡", "card"), ("电子邮箱", "mail"))),
        ),
        button="完成",
        small="{name}由{company}提供",
    ),
}
