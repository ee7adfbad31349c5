"""The known labels: which function draws which, under which brand.

label ─> builder(values, brand) ─> Page        PAGES is the whole list
"""

import functools
from collections.abc import Callable, Mapping

from tests.samples import pages_credit, pages_home, pages_jd, pages_more, pages_zfb
from tests.samples.blocks import Page
from tests.samples.brands import Brand
from tests.samples.forms import form
from tests.samples.pages_info import FORMS
from tests.samples.values import Values

Builder = Callable[[Values, Brand], Page]

PAGES: Mapping[str, Builder] = {
    "ayh_amount": pages_credit.ayh_amount,
    "dxm_amount": pages_credit.dxm_amount,
    "dxm_yqh": pages_credit.dxm_yqh,
    "dyfxj_amount": pages_jd.dyfxj_amount,
    "jb_main_page": pages_more.jb_main_page,
    "jdjr_amount": pages_jd.jdjr_amount,
    "jdjr_total_amount": pages_jd.jdjr_total_amount,
    "mtshf_amount": pages_more.mtshf_amount,
    "mtshf_total_amount": pages_more.mtshf_total_amount,
    "ppd_amount": pages_more.ppd_amount,
    "wld_amount": pages_more.wld_amount,
    "zfb_my_homepage-zfb_my_name_card": pages_zfb.zfb_home,
    "zsyh_amount": pages_home.zsyh_amount,
    "zsyh_amount_detail": pages_home.zsyh_amount_detail,
    "zsyh_setting": pages_home.zsyh_setting,
    **{label: functools.partial(form, spec) for label, spec in FORMS.items()},
}

LABELS = tuple(sorted(PAGES))
"""Every known label."""

DEMO_LABELS = (
    "dxm_user_info",
    "dyfxj_amount",
    "dyfxj_user_info",
    "jb_main_page",
    "zfb_my_homepage-zfb_my_name_card",
    "zsyh_setting",
)
"""Labels of the demo: a few that show the hard cases, and are drawn in seconds."""


def outputs(label: str) -> list[str]:
    """The business labels of a page: `dyfxj_amount` is `dyfxj` and `amount`."""
    if "-" in label:
        return label.split("-")
    app, _, page = label.partition("_")
    return [app, page]
