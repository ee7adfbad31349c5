"""Which strings are proposed as brands, and which phrases of a page are not."""

from __future__ import annotations

from pagesight_server.curation.brand_mining import suggest
from tests.support.parts import snapshot

LOOK = (1.0, 0.0)


def mined(**labels: list[tuple[str, ...]]) -> dict[str, list[str]]:
    """The texts that are suggested for pages of these lines."""
    pictures = [(label, LOOK, lines) for label, pages in labels.items() for lines in pages]
    return {
        label: [s.text for s in suggested]
        for label, suggested in suggest(snapshot(*pictures)).items()
    }


def test_a_title_that_stands_in_other_sentences_too_is_a_name() -> None:
    suggested = mined(
        dx_amount=[
            ("有钱花", "可用额度", "有钱花祝您生活愉快"),
            ("有钱花", "可用额度", "有钱花祝您生活愉快"),
        ],
        zs_amount=[("闪电", "可用额度"), ("闪电", "可用额度")],
    )
    assert suggested["dx_amount"] == ["有钱花"]


def test_a_title_alone_is_a_phrase_of_the_page() -> None:
    suggested = mined(
        dx_amount=[("我的额度", "可用额度"), ("我的额度", "可用额度")],
        zs_amount=[("额度详情", "可用额度"), ("额度详情", "可用额度")],
    )
    assert suggested == {"dx_amount": [], "zs_amount": []}


def test_the_block_in_which_the_lines_of_two_apps_differ_is_a_name_on_both() -> None:
    # Below the title's part of the page, so that nothing but the gap and the company speak.
    above = ("首页", "服务", "额度", "账单", "优惠")
    suggested = mined(
        dx_amount=[(*above, "本服务由重庆度小满小额贷款有限公司提供")] * 2,
        mt_amount=[(*above, "本服务由重庆三快小额贷款有限公司提供")] * 2,
    )
    assert suggested == {"dx_amount": ["度小满"], "mt_amount": ["三快"]}


def test_the_name_of_a_bank_is_written_whole() -> None:
    above = ("首页", "服务", "额度", "账单", "优惠")
    suggested = mined(
        wl_amount=[(*above, "本产品由深圳前海微众银行股份有限公司提供")] * 2,
        zs_amount=[(*above, "本产品由招商银行股份有限公司提供")] * 2,
    )
    assert suggested == {"wl_amount": ["微众银行"], "zs_amount": ["招商银行"]}


def test_a_name_is_proposed_on_every_label_of_the_app_that_shows_it() -> None:
    suggested = mined(
        dx_amount=[("有钱花", "可用额度", "由有钱花提供")] * 3,
        dx_info=[("个人信息", "姓名"), ("个人信息", "姓名", "有助于提升有钱花额度")],
        dx_page=[("设置", "退出")] * 2,
        zs_amount=[("闪电", "可用额度")] * 2,
    )
    assert suggested["dx_amount"] == ["有钱花"]
    assert suggested["dx_info"] == ["有钱花"]
    assert suggested["dx_page"] == []


def test_what_another_app_shows_on_most_pictures_is_no_name() -> None:
    page = ("借呗", "可用额度", "由借呗提供")
    suggested = mined(jb_page=[page] * 2, zs_page=[page] * 2)
    assert suggested == {"jb_page": [], "zs_page": []}


def test_what_differs_from_picture_to_picture_is_no_name() -> None:
    above = ("首页", "服务", "额度", "账单", "优惠")
    employers = ("云帆", "禾穗", "青杉", "澜心")
    suggested = mined(
        dx_info=[(*above, f"单位南京{name}餐饮管理有限公司") for name in employers],
        zs_info=[(*above, "单位南京满月餐饮管理有限公司")] * 1,
    )
    assert suggested["dx_info"] == []


def test_names_in_latin_script_are_words() -> None:
    suggested = mined(
        ac_list=[("Catima", "Cards", "Welcome to Catima now")] * 2,
        bd_list=[("Files", "Cards", "Welcome to storage now")] * 2,
    )
    assert suggested["ac_list"] == ["Catima"]


def test_examples_of_unknown_pages_are_not_mined() -> None:
    suggested = mined(other_ads=[("有钱花", "由有钱花提供")] * 2, zs_amount=[("闪电", "额度")])
    assert list(suggested) == ["zs_amount"]


def test_the_reason_is_in_words() -> None:
    pages = [("dx_amount", LOOK, ("有钱花", "可用额度", "由有钱花提供"))] * 2
    [suggestion] = suggest(snapshot(*pages))["dx_amount"]
    assert suggestion.pictures == 2
    assert suggestion.why == "on 2 of 2 pictures; a title; in 2 different sentences"
