"""Every real promotion gets a status: the distribution by chain and reward code, the share of unknown, and no price above the shelf's."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from grocery.feeds.check import read_feed
from grocery.store.promotions import KINDS, STATUSES, make_promotion_lines, price_promotions
from grocery.tables import make_table

SHUFERSAL_PRICES = "feeds/shufersal/PriceFull7290027600007-001-201505220341.gz"
REAL = [  # promotions, their shelf prices, the day
    ("feeds/keshet/PromoFull7290785400000-002-202602170010", None, datetime(2026, 2, 17, 12, tzinfo=UTC)),
    ("feeds/rami_levy/PromoFull7290058140886-001-202602170010", None, datetime(2026, 2, 17, 12, tzinfo=UTC)),
    ("feeds/shufersal/PromoFull7290027600007-001-201505220341.gz", SHUFERSAL_PRICES, datetime(2015, 5, 22, 12, tzinfo=UTC)),
    ("history/daily_2026-08_7chains/israeli_promos_2026-08-10.csv.gz", "history/daily_2026-08_7chains/israeli_prices_2026-08-10.csv.gz", datetime(2026, 8, 10, 12, tzinfo=UTC)),
]  # fmt: skip


@pytest.fixture(scope="module")
def real(realdata) -> list[tuple[pd.DataFrame, datetime]]:
    "Real promotion lines, with regular prices where there are any, and a moment for each file."
    found = []
    for path, shelf, at in REAL:
        mapping = ("daily_2026_08_promos", "daily_2026_08") if "daily" in path else (None, None)
        promotions = read_feed((realdata / path).read_bytes(), path, mapping[0]).tables
        prices = read_feed((realdata / shelf).read_bytes(), shelf, mapping[1]).tables if shelf else {}
        lines = make_promotion_lines(
            promotions["promotions"],
            promotions["promotion_items"],
            prices.get("prices", make_table("prices", [])),
            prices.get("items"),
        )
        found.append((lines, at))
    return found  # fmt: skip


@pytest.mark.realdata
def test_every_real_promotion_gets_a_status(real):
    "With every door open (clubs, coupons, a basket), few promotions are unreadable; where one applies, it is never dearer than the shelf."
    parts = []
    for number, (lines, at) in enumerate(real):
        priced = (
            price_promotions(lines, at, {"1", "2", "3", "5"}, coupons=True, basket_ils=1000)
            .to_pandas()
            .assign(file=number)
        )
        assert (
            len(priced) == len(lines)
            and priced["status"].isin(STATUSES).all()
            and priced["why"].str.len().gt(0).all()
            and priced["kind"].isin(KINDS).all()
        )
        parts.append(priced.assign(reward=lines["reward_type"].to_numpy()))
    every = pd.concat(parts)
    promotions = every.drop_duplicates(["file", "chain_id", "store_id", "promotion_id"])
    unknown, unread = (
        promotions["status"].eq("unknown"),
        promotions["status"].eq("unknown") & promotions["kind"].eq("unknown"),
    )
    print(promotions.groupby(["chain_id", "reward", "status"], dropna=False).size().unstack(fill_value=0).to_string())
    print(promotions.loc[unknown, "why"].str.replace(r"[\d.]+", "#", regex=True).value_counts().to_string())
    print(f"{len(promotions)} promotions: {unknown.mean():.1%} unknown, {unread.mean():.1%} unreadable")
    # measured: 6.7% and 2.7%; the difference is percentages off an item that has no regular price in its file
    assert unknown.mean() < 0.075 and unread.mean() < 0.03
    shelved = every[every["file"].eq(3) & every["regular_ils"].notna()].drop_duplicates(
        ["chain_id", "store_id", "promotion_id"]
    )
    assert shelved["status"].eq("unknown").mean() < 0.06
    applies = every[every["status"].eq("applies") & every["regular_ils"].notna()]
    assert (
        len(applies) > 10_000
        and (applies["promotion_ils"] <= applies["regular_ils"]).all()
        and (applies["promotion_ils"] >= 0).all()
    )


@pytest.mark.realdata
def test_a_stranger_without_clubs_or_coupons_pays_what_the_shelf_says(real):
    lines, at = real[-1]
    priced = price_promotions(lines, at).to_pandas()
    applies = priced["status"].eq("applies")
    assert priced.loc[~applies, "promotion_ils"].isna().all() and priced.loc[applies, "promotion_ils"].notna().all()
    assert priced.loc[np.asarray(lines["is_coupon"].eq(True)), "status"].isin(["coupon", "not_now"]).all()
    assert not np.asarray(lines["club_id"].ne("0"))[applies].any()
