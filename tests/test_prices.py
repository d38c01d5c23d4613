"Prices: days and clocks, baskets that count nothing twice or for free, forecasts that see no future, errors found on seeds nobody tuned to."

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import GroceryError
from grocery.prices.anomaly import find_anomalies, score_anomalies
from grocery.prices.backtest import fit_params, forecast_champions, score_backtest, score_mase, score_pinball
from grocery.prices.basket import make_cover, make_lines, price_baskets, price_user_basket, read_baskets
from grocery.prices.features import SeriesSet, make_features, make_index_series, make_item_series
from grocery.prices.forecast import (
    MODELS,
    add_intervals,
    fit_intervals,
    forecast,
    make_origins,
    make_training,
    predict_origins,
    predict_series,
)
from grocery.prices.metrics import find_days, find_moves, make_daily, make_noons, score_freshness, score_levels

ISRAEL = "Asia/Jerusalem"


def history(*rows, chain="A") -> pd.DataFrame:
    "A price history from (store, item, price, from, to) in Israel time; to None lasts."
    frame = pd.DataFrame(rows, columns=["store_id", "item_code", "price_ils", "valid_from", "valid_to"])
    for column in ("valid_from", "valid_to"):
        frame[column] = pd.to_datetime(frame[column]).dt.tz_localize(ISRAEL).dt.tz_convert("UTC")
    return frame.assign(chain_id=chain)


# --- days ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, before, after", [("2026-03-27", 10, 9), ("2026-10-25", 9, 10)])
def test_noon_is_noon_on_both_sides_of_a_clock_change(change, before, after):
    days = pd.date_range(pd.Timestamp(change) - pd.Timedelta(days=1), periods=2)
    assert [t.hour for t in make_noons(days)] == [before, after]
    start, end = (f"{d:%Y-%m-%d}" for d in days)
    prices = history(("001", "x", 1.0, f"{start} 06:00", f"{end} 11:59"), ("001", "x", 2.0, f"{end} 11:59", None))
    assert make_daily(prices, days)["price_ils"].tolist() == [1.0, 2.0]
    late = history(("001", "x", 1.0, f"{start} 06:00", f"{end} 12:01"), ("001", "x", 2.0, f"{end} 12:01", None))
    assert make_daily(late, days)["price_ils"].tolist() == [1.0, 1.0]


def test_a_day_ends_in_israel_and_not_in_utc():
    prices = history(("001", "x", 1.0, "2026-05-01 00:30", None))  # 30 April in UTC
    assert find_days(prices, pd.Timestamp("2026-05-02 22:30", tz="UTC")).tolist() == list(
        pd.date_range("2026-05-01", "2026-05-03")
    )


def test_an_item_that_is_off_the_shelf_has_no_price():
    prices = history(
        ("001", "x", 1.0, "2026-05-01 06:00", "2026-05-02 06:00"), ("001", "x", 1.0, "2026-05-04 06:00", None)
    )
    assert make_daily(prices, pd.date_range("2026-05-01", "2026-05-05"))["day"].dt.day.tolist() == [1, 4, 5]


def test_days_out_of_order_are_refused():
    with pytest.raises(GroceryError, match="ascending"):
        make_daily(history(("001", "x", 1.0, "2026-05-01", None)), ["2026-05-02", "2026-05-01"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 72), min_size=1, max_size=12), st.integers(0, 11), st.booleans())
def test_daily_prices_equal_a_look_up_by_hand(hours, gap, lasts):
    moment, rows = pd.Timestamp("2026-03-24 01:00", tz="UTC"), []
    for i, length in enumerate(hours):
        end = moment + pd.Timedelta(hours=length)
        rows.append((i + 1.0, moment, end))
        moment = end + pd.Timedelta(hours=gap if i % 3 == 1 else 0)
    frame = pd.DataFrame(rows, columns=["price_ils", "valid_from", "valid_to"])
    if lasts:
        frame.loc[len(frame) - 1, "valid_to"] = pd.NaT
    days = find_days(frame)
    daily = make_daily(frame.assign(chain_id="A", store_id="1", item_code="x"), days).set_index("day")["price_ils"]
    for day, noon in zip(days, make_noons(days), strict=True):
        valid = frame[(frame["valid_from"] <= noon) & (frame["valid_to"].isna() | (frame["valid_to"] > noon))]
        assert daily.get(day) == (valid["price_ils"].iloc[0] if len(valid) else None)


# --- moves, levels, freshness ----------------------------------------------------------------------------------------------------------


def test_a_spike_on_the_last_day_is_no_move_and_is_said():
    rows = [
        ("001", "milk", 6.9, "2026-05-01 06:00", "2026-05-20 06:00"),
        ("001", "milk", 69.0, "2026-05-20 06:00", None),
    ]
    rows += [
        ("001", "rice", 10.0, "2026-05-01 06:00", "2026-05-10 06:00"),
        ("001", "rice", 12.0, "2026-05-10 06:00", None),
    ]
    moves = find_moves(history(*rows), "2026-05-01", "2026-05-20")
    assert moves[["item_code", "unconfirmed"]].values.tolist() == [["rice", 0]]
    assert moves["change"].iloc[0] == pytest.approx(0.2)
    later = find_moves(history(*rows), "2026-05-01", "2026-05-22")
    assert later["item_code"].tolist() == ["milk", "rice"]


def test_moves_compare_like_with_like():
    cheap_store_opens = history(
        ("001", "x", 10.0, "2026-05-01 06:00", None), ("002", "x", 5.0, "2026-05-10 06:00", None)
    )
    assert find_moves(cheap_store_opens, "2026-05-01", "2026-05-20").empty
    assert find_moves(cheap_store_opens, "2026-05-20", "2026-05-20").empty


def test_levels_ignore_what_only_one_chain_sells():
    shelf = pd.DataFrame(
        [("A", "rice", 10.0), ("B", "rice", 11.0), ("B", "caviar", 900.0), ("A", None, 1.0)],
        columns=["chain_id", "gtin", "price_ils"],
    ).assign(store_id="1")
    levels = score_levels(shelf).set_index("chain_id")
    assert levels["products"].tolist() == [1, 1] and levels.loc["B", "level"] == pytest.approx(1.1)
    assert score_levels(shelf[shelf["chain_id"] == "A"]).empty


def test_level_intervals_hold_the_truth():
    hits = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        base = rng.uniform(3, 40, 80)
        shelf = pd.DataFrame({"gtin": np.arange(80).astype(str)})
        both = [
            shelf.assign(chain_id=c, price_ils=base * f * np.exp(rng.normal(0, 0.1, 80)))
            for c, f in (("A", 1), ("B", 1.05))
        ]
        row = score_levels(pd.concat(both).assign(store_id="1"), seed=seed).set_index("chain_id").loc["B"]
        hits += row["low"] <= 1.05 <= row["high"]
    assert hits >= 34


def test_freshness_counts_price_files_only():
    files = pd.DataFrame(
        [("A", "1", "Price", "2026-05-01"), ("A", "1", "Promo", "2026-05-09"), ("B", "1", "PriceFull", "2026-05-09")],
        columns=["chain_id", "store_id", "kind", "published_at"],
    ).assign(published_at=lambda d: pd.to_datetime(d["published_at"], utc=True))
    fresh = score_freshness(files).set_index("chain_id")
    assert fresh["age_hours"].to_dict() == {"B": 0.0, "A": 192.0} and fresh.loc["A", "stale_stores"] == 1


# --- baskets -----------------------------------------------------------------------------------------------------------------------------


def shelf(*rows) -> pd.DataFrame:
    columns = ["chain_id", "store_id", "item_code", "gtin", "item_name", "quantity", "unit", "is_weighted", "price_ils"]
    return pd.DataFrame(rows, columns=columns)


def packed(chain, code, name, price, quantity=1000.0, unit="g", gtin=None, store="001"):
    return (chain, store, code, gtin, name, quantity, unit, False, price)


def test_standard_baskets_are_sound():
    baskets = read_baskets()
    assert baskets["basket_id"].nunique() >= 3 and not baskets.duplicated(["basket_id", "line"]).any()
    assert (baskets[["query_hebrew", "query_english", "label_hebrew", "label_english"]].map(len) > 0).all().all()
    assert not baskets.duplicated(["basket_id", "label_english"]).any()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 6_000), st.integers(10, 9_999))
def test_packs_cover_and_not_one_too_many(wanted, pack, agorot):
    packs, cost = make_cover(wanted, pack, agorot / 100)
    assert packs * pack >= wanted > (packs - 1) * pack
    assert cost == pytest.approx(packs * agorot / 100, abs=0.005)


def test_weighed_goods_are_cut_to_the_gram_and_unknown_packs_cost_nothing_known():
    assert float(make_cover(700, 1000, 10.0, True)[1]) == 7.0
    assert np.isnan(make_cover(700, np.nan, 10.0)[1])


def test_a_missing_line_is_never_zero():
    lines = make_lines(
        [("rice", 1000, "g"), ("sugar", 1000, "g"), ("flour", 1000, "g"), ("oil", 1000, "ml"), ("salt", 1000, "g")]
    )
    full = [(w, p) for w, p in zip(("rice", "sugar", "flour", "oil", "salt"), (10, 5, 5, 15, 3), strict=True)]
    rows = [packed("A", w, w, p, unit="ml" if w == "oil" else "g") for w, p in full]
    rows += [packed("B", w, w, p + 0.5, unit="ml" if w == "oil" else "g") for w, p in full if w != "oil"]
    priced = price_baskets(lines, shelf(*rows), min_coverage=0.8)
    stores = priced.stores.set_index("chain_id")
    assert stores.loc["B", "cost_ils"] == 25.0 and stores.loc["B", "missing"] == "oil"
    assert stores["rank"].to_dict() == {
        "A": 1.0,
        "B": 2.0,
    }  # 38 against 25 on the receipt, 23 against 25 on shared lines
    assert stores["compared_ils"].to_dict() == {"A": 23.0, "B": 25.0}
    assert stores["compared_by"].str.contains("4 of 5").all()
    missing = priced.lines[priced.lines["choice"] == "missing"]
    assert missing["cost_ils"].isna().all() and len(missing) == 1


def test_coverage_below_the_limit_is_refused():
    lines = make_lines([("rice", 1000, "g"), ("sugar", 1000, "g"), ("flour", 1000, "g")])
    rows = [packed("A", w, w, 10) for w in ("rice", "sugar", "flour")] + [packed("B", "rice", "rice", 1)]
    refused = price_baskets(lines, shelf(*rows)).stores.set_index("chain_id").loc["B"]
    assert np.isnan(refused["rank"]) and np.isnan(refused["compared_ils"]) and "not compared" in refused["reason"]
    lenient = price_baskets(lines, shelf(*rows), min_coverage=0.3).stores
    assert lenient["rank"].notna().all()
    for wrong in (0, 1.2, -1):
        with pytest.raises(GroceryError, match="min_coverage"):
            price_baskets(lines, shelf(*rows), min_coverage=wrong)


def test_where_few_lines_are_shared_the_market_median_stands_in_and_is_named():
    words = ["rice", "sugar", "flour", "salt", "pasta"]
    lines = make_lines([(w, 1000, "g") for w in words])
    rows = [
        packed(chain, w, w, price)
        for chain, price, lacks in (("A", 10, "rice"), ("B", 11, "sugar"), ("C", 12, "flour"))
        for w in words
        if w != lacks
    ]
    stores = price_baskets(lines, shelf(*rows)).stores.set_index("chain_id")
    assert (stores["compared_by"] == "imputed (market median)").all()
    assert (
        stores.loc["A", "imputed_ils"] == 11.5
        and stores.loc["A", "compared_ils"] == 51.5
        and stores.loc["A", "cost_ils"] == 40
    )


def test_one_product_is_preferred_and_the_fallback_is_said():
    rows = [packed(c, "1", "rice", 12, gtin="7290000000015") for c in "ABC"] + [
        packed("C", "2", "rice cheap", 8, gtin="7290000000022")
    ]
    rows += [packed("D", "3", "rice other", 9, gtin="7290000000039")]
    lines = price_user_basket([("rice", 1000, "g")], shelf(*rows)).lines.set_index("chain_id")
    assert lines["cost_ils"].to_dict() == {"A": 12, "B": 12, "C": 12, "D": 9}
    assert lines["choice"].to_dict() == {
        "A": "same product",
        "B": "same product",
        "C": "same product",
        "D": "cheapest equivalent",
    }


def test_units_never_mix_and_eggs_are_counted():
    rows = [packed("A", "1", "ביצים L 12 יח", 13.0, 1.0, "piece"), packed("A", "2", "ביצים במשקל", 1.0, 1000.0, "g")]
    line = price_user_basket([("ביצים", 12, "piece")], shelf(*rows)).lines.iloc[0]
    assert (line["packs"], line["cost_ils"]) == (1, 13.0)


def test_an_absurd_price_wins_no_basket():
    rows = [packed(c, "1", "rice", p, gtin="7290000000015") for c, p in zip("ABCD", (12, 12, 13, 1.2), strict=True)]
    priced = price_user_basket([("rice", 1000, "g")], shelf(*rows))
    line = priced.lines.set_index("chain_id").loc["D"]
    assert line["choice"] == "missing" and line["set_aside"] == 1
    assert np.isnan(priced.stores.set_index("chain_id").loc["D", "rank"])


def test_a_loose_line_is_not_covered_by_crisps():
    onions = read_baskets().query("label_english == 'onions' and basket_id == 'family_week'")
    rows = [
        packed("A", "1", "ביסלי בצל", 2.0, gtin="7290000000015"),
        ("A", "001", "2", None, "בצל יבש", 1000.0, "g", True, 5.0),
    ]
    assert price_baskets(onions, shelf(*rows)).lines["item_name"].tolist() == ["בצל יבש"]


def test_categories_keep_sweets_out_where_they_are_known():
    milk = read_baskets().query("label_english == 'milk 3%' and basket_id == 'single'")
    rows = shelf(packed("A", "1", "חלב 3 שכבות", 1.0, unit="ml"), packed("A", "2", "חלב 3%", 7.0, unit="ml"))
    assert price_baskets(milk, rows).lines["item_name"].tolist() == ["חלב 3 שכבות"]
    known = rows.assign(category=["snacks", "dairy"])
    assert price_baskets(milk, known).lines["item_name"].tolist() == ["חלב 3%"]


def test_an_empty_shelf_and_a_wrong_list():
    priced = price_baskets(read_baskets(), shelf())
    assert priced.stores.empty and priced.lines.empty
    some = price_user_basket([("rice", 1000, "g")], shelf(packed("A", "1", "rice", 5.0)))
    assert list(priced.stores) == list(some.stores)
    for wrong in ([("rice", 0, "g")], [("rice", 5, "kg")], [("", 5, "g")]):
        with pytest.raises(GroceryError):
            price_user_basket(wrong, shelf())


# --- series and features --------------------------------------------------------------------------------------------------------------------


def stairs(seed: int, count: int = 24, days: int = 84, chance: float = 0.05) -> SeriesSet:
    "Invented step prices."
    rng = np.random.default_rng(seed)
    jumps = (rng.random((days, count)) < chance) * rng.uniform(-0.2, 0.2, (days, count))
    names = pd.Index([f"A/{i}" for i in range(count)], name="series_id")
    values = pd.DataFrame(10 * np.exp(jumps.cumsum(axis=0)), pd.date_range("2026-02-01", periods=days), names)
    about = pd.DataFrame(
        {"label": names, "level": "item", "chain_id": "A", "item_code": [n[2:] for n in names]}, index=names
    )
    return SeriesSet(values, about)


def poisoned(series: SeriesSet, after: pd.Timestamp) -> SeriesSet:
    "The same series with nonsense after a day."
    values = series.values.copy()
    late = values.index > after
    values.loc[late] = np.random.default_rng(0).uniform(1, 1e6, (int(late.sum()), values.shape[1]))
    return SeriesSet(values, series.about)


def test_features_know_nothing_of_the_future():
    series = stairs(5)
    origin = series.values.index[50]
    clean, bad = (make_features(s, [origin], range(1, 15)) for s in (series, poisoned(series, origin)))
    pd.testing.assert_frame_equal(clean.drop(columns="target"), bad.drop(columns="target"))
    assert (clean["target"] != bad["target"]).mean() > 0.9  # the poison was there to be seen


def test_a_promotion_that_has_not_begun_is_not_known():
    series = stairs(5, count=2)
    origin = series.values.index[50]
    begins = pd.DataFrame(
        {
            "chain_id": "A",
            "item_code": ["0", "1"],
            "starts_on": [origin, origin + pd.Timedelta(days=1)],
            "ends_on": pd.NaT,
        }
    )
    assert make_features(series, [origin], [1], promotions=begins)["promoted"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("model", MODELS)
def test_no_model_sees_the_future(model):
    series = stairs(6, count=1 if model in ("arima", "prophet") else 24)
    origins = make_origins(series.values.index, 7, 2)
    clean = predict_origins(model, series, origins, 7)
    bad = predict_origins(model, poisoned(series, origins[0]), origins[:1], 7)
    first = clean[clean["origin"] == origins[0]].reset_index(drop=True)
    columns = ["series_id", "day", "mean", "last", "scale", "moving"]
    pd.testing.assert_frame_equal(first[columns], bad[columns])
    assert (first["actual"] != bad["actual"]).all()


def test_training_targets_end_with_the_history():
    series = stairs(7).until("2026-03-20")
    rows = make_training(series, 14)
    assert rows["day"].max() <= series.values.index[-1] and np.isfinite(rows["target"]).all()


def test_the_backtest_chooses_and_tunes_before_the_test_origin():
    series = stairs(8, count=12)
    last = make_origins(series.values.index, 7, 3)[-1]
    models = ["last_value", "seasonal_naive", "lightgbm"]
    clean, bad = (score_backtest(s, horizon=7, models=models) for s in (series, poisoned(series, last)))
    early = [b.metrics[b.metrics["split"] == "validation"].reset_index(drop=True) for b in (clean, bad)]
    pd.testing.assert_frame_equal(*early)
    test = [b.forecasts[b.forecasts["split"] == "test"].reset_index(drop=True) for b in (clean, bad)]
    pd.testing.assert_frame_equal(test[0][["mean", "low", "high"]], test[1][["mean", "low", "high"]])
    first = make_origins(series.values.index, 7, 3)[0]
    assert fit_params(series, horizon=7, trials=2) == fit_params(poisoned(series, first), horizon=7, trials=2) != {}


def test_a_late_item_does_not_move_an_index_and_an_error_returns():
    days = pd.date_range("2026-05-01", periods=6)
    rows = [
        ("A", "1", item, d, p)
        for item, ps in {"a": [10] * 6, "b": [5, 5, 50, 5, 5, 5], "c": [8] * 6}.items()
        for d, p in zip(days, ps, strict=True)
    ]
    rows += [("A", "1", "dear", d, 500.0) for d in days[4:]]
    daily = pd.DataFrame(rows, columns=["chain_id", "store_id", "item_code", "day", "price_ils"])
    index = make_index_series(daily, daily[["chain_id", "item_code"]].drop_duplicates().assign(label="all")).values[
        "index/all"
    ]
    assert index.drop(days[2]).tolist() == pytest.approx([100.0] * 5) and index[days[2]] == pytest.approx(
        100 * 10 ** (1 / 3)
    )


def test_an_item_series_is_its_stores_median_and_waits_a_week():
    days = pd.date_range("2026-05-01", periods=20)
    rows = [
        ("A", s, "x", d, p)
        for s, p in (("1", 10.0), ("2", 11.0), ("3", 99.0))
        for d in days
        if d.day <= 5 or d.day == 20
    ]
    values = make_item_series(
        pd.DataFrame(rows, columns=["chain_id", "store_id", "item_code", "day", "price_ils"]), min_share=0
    ).values["A/x"]
    assert values.dropna().eq(11.0).all() and values.notna().sum() == 5 + 7 + 1


# --- forecasts and their measures --------------------------------------------------------------------------------------------------------


def test_mase_by_hand():
    assert score_mase([4, 5], [3, 3], [1, 2, 4, 3]) == pytest.approx(1.125)  # steps 1, 2, 1; off by 1 and 2
    assert score_mase([10], [7], [1, 3, 5, 3], season=2) == pytest.approx(3 / 2)  # |5-1| and |3-3|
    assert np.isnan(score_mase([5], [5], [5, 5, 5])) and np.isnan(score_mase([5], [4], [5]))


def test_mase_of_the_backtest_is_the_same_measure():
    series = stairs(9, count=6, chance=0.2)
    test = score_backtest(series, horizon=7, origins=2, models=["last_value", "seasonal_naive"])
    origin = make_origins(series.values.index, 7, 2)[-1]
    past, ahead = series.values.loc[:origin], series.values.loc[origin:].iloc[1:8]
    by_hand = [score_mase(ahead[c], np.repeat(past[c].iloc[-1], 7), past[c]) for c in past]
    row = test.metrics.query("split == 'test' and model == 'last_value' and metric == 'mase'").iloc[0]
    assert row["value"] == pytest.approx(np.mean(by_hand)) and row["n"] == 6
    week = [score_mase(ahead[c], past[c].iloc[-7:], past[c]) for c in past]
    row = test.metrics.query("split == 'test' and model == 'seasonal_naive' and metric == 'mase_minus_last'").iloc[0]
    assert row["value"] == pytest.approx(np.mean(week) - np.mean(by_hand))


def test_pinball_by_hand():
    assert score_pinball([10.0, 10.0], [8.0, 11.0], 0.9) == pytest.approx((1.8 + 0.1) / 2)


def test_origins_share_no_day_and_need_history():
    days = pd.date_range("2026-01-01", periods=90)
    origins = make_origins(days, 14, 3)
    assert origins[-1] + pd.Timedelta(days=14) == days[-1] and set(np.diff(origins) / np.timedelta64(1, "D")) == {14.0}
    assert make_origins(days[:41], 14, 3) == [] and len(make_origins(days[:42], 14, 3)) == 1


def test_intervals_hold_what_they_promise_on_fresh_seeds():
    inside, width = [], []
    for seed in range(100, 112):
        series = stairs(seed, count=60)
        origins = make_origins(series.values.index, 7, 4)
        rows = predict_origins("last_value", series, origins, 7)
        test = add_intervals(rows[rows["origin"] == origins[-1]], fit_intervals(rows[rows["origin"] < origins[-1]]))
        inside.append(((test["actual"] >= test["low"] - 1e-9) & (test["actual"] <= test["high"] + 1e-9)).mean())
        width.append(((test["high"] - test["low"]) / test["last"]).mean())
        assert (test["low"] <= test["mean"]).all() and (test["mean"] <= test["high"]).all()
    assert 0.78 <= np.mean(inside) <= 0.93 and np.mean(width) < 0.35


def test_nothing_beats_doing_nothing_on_noise_and_something_does_on_a_market_day():
    noise = [
        score_backtest(stairs(s, count=20), horizon=7, models=["last_value", "seasonal_naive", "lightgbm"]).chosen[
            "item"
        ]
        for s in (21, 22)
    ]
    assert noise == ["last_value"] * 2
    series = stairs(24, count=20, chance=0.02)
    values = series.values * np.where(series.values.index.weekday == 1, 0.8, 1.0)[:, None]
    assert (
        score_backtest(SeriesSet(values, series.about), horizon=7, models=["last_value", "lightgbm"]).chosen["item"]
        == "lightgbm"
    )


def test_short_histories_end_well():
    series = stairs(9, days=20)
    test = score_backtest(series)
    assert (
        test.metrics.empty and test.chosen == {} and forecast_champions(series, test).empty and fit_params(series) == {}
    )
    with pytest.raises(GroceryError, match="20 days of history, 28 needed"):
        predict_series("last_value", series, 7)
    with pytest.raises(GroceryError, match="Did you mean prophet"):
        predict_series("profet", stairs(9), 7)
    bare = forecast(stairs(9, days=30), 7)
    assert bare["mean"].notna().all() and bare["low"].isna().all()


# --- anomalies -------------------------------------------------------------------------------------------------------------------------------


def market(seed: int, stores: int = 3, items: int = 60, days: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Another market than the sample one: price steps, chain-wide sales of one or two days, and a few gross errors. Returns prices and errors."
    rng = np.random.default_rng(seed)
    base = np.round(rng.uniform(3, 60, items), 1) + 0.09
    shelf = np.tile(base[None, :, None], (stores, 1, days)) * rng.uniform(0.95, 1.05, (stores, 1, 1))
    for item in range(items):
        if rng.random() < 0.5:
            shelf[:, item, rng.integers(5, days - 5) :] *= rng.uniform(0.7, 1.4)
        if rng.random() < 0.4:
            day = rng.integers(3, days - 4)
            shelf[:, item, day : day + rng.integers(1, 3)] *= rng.uniform(0.4, 0.8)
    seen, errors = shelf.round(2), []
    for _ in range(25):
        store, item, day, long = (
            rng.integers(stores),
            rng.integers(items),
            int(rng.integers(4, days - 5)),
            int(rng.integers(1, 3)),
        )
        around = seen[:, item, day - 2 : day + 4]
        if (np.abs(np.diff(around, axis=1)) > 1e-9).any():
            continue
        factor = rng.choice([10, 0.1, 100, 0.01, 12, 5])
        seen[store, item, day : day + long] = max(0.01, round(seen[store, item, day] * factor, 2))
        errors.append(
            (
                str(store),
                str(item),
                pd.Timestamp("2026-05-01") + pd.Timedelta(days=day),
                pd.Timestamp("2026-05-01") + pd.Timedelta(days=day + long - 1),
            )
        )
    morning = pd.date_range("2026-05-01 03:00", periods=days, tz="UTC")
    rows = []
    for store in range(stores):
        for item in range(items):
            starts = [0, *(np.flatnonzero(np.diff(seen[store, item])) + 1)]
            for a, b in zip(starts, [*starts[1:], None], strict=True):
                rows.append(("A", str(store), str(item), seen[store, item, a], morning[a], morning[b] if b else pd.NaT))
    prices = pd.DataFrame(rows, columns=["chain_id", "store_id", "item_code", "price_ils", "valid_from", "valid_to"])
    return prices, pd.DataFrame(errors, columns=["store_id", "item_code", "starts_on", "ends_on"]).assign(chain_id="A")


def test_gross_errors_are_found_on_seeds_nobody_tuned_to():
    hits = {"precision": [], "recall": []}
    for seed in range(900, 904):
        prices, errors = market(seed)
        score = score_anomalies(find_anomalies(prices), errors).set_index("metric")
        assert score.loc["recall", "n"] >= 10
        for metric in hits:
            hits[metric].append(score.loc[metric, "value"])
    assert np.mean(hits["precision"]) >= 0.95 and np.mean(hits["recall"]) >= 0.9


def test_a_market_without_errors_raises_no_alarm():
    prices, errors = market(907)
    wrong = find_anomalies(prices)
    assert len(wrong) >= 10  # so that silence below is no blindness
    clean, _ = market(907)
    mended = clean.merge(
        wrong[["store_id", "item_code", "price_ils"]].assign(bad=True),
        how="left",
        on=["store_id", "item_code", "price_ils"],
    )
    assert find_anomalies(mended[mended["bad"].isna()]).empty


def test_sales_and_new_prices_are_no_errors():
    rows = [
        (s, "x", p, a, b)
        for s in ("001", "002")
        for p, a, b in (
            (20.0, "2026-05-01 06:00", "2026-05-10 06:00"),
            (7.9, "2026-05-10 06:00", "2026-05-11 06:00"),
            (20.0, "2026-05-11 06:00", "2026-05-20 06:00"),
            (45.0, "2026-05-20 06:00", None),
        )
    ]
    assert find_anomalies(history(*rows), seen_at=pd.Timestamp("2026-06-01", tz="UTC")).empty


def test_an_error_is_found_on_the_day_it_appears():
    rows = [
        ("001", "x", 20.0, "2026-05-01 06:00", "2026-05-10 06:00"),
        ("001", "x", 2.0, "2026-05-10 06:00", None),
        ("002", "x", 20.0, "2026-05-01 06:00", None),
    ]
    found = find_anomalies(history(*rows), seen_at=pd.Timestamp("2026-05-10 09:00", tz="UTC"))
    assert found[["store_id", "reason", "evidence"]].values.tolist() == [["001", "decimal_shift", "still there"]]


def test_one_day_of_prices_is_judged_by_what_others_ask():
    chains = [
        history(("001", "x", p, "2026-05-01 06:00", None), chain=c)
        for c, p in zip("ABCD", (9.9, 10.2, 99.0, 9.5), strict=True)
    ]
    items = pd.DataFrame(
        {"chain_id": list("ABCD"), "item_code": "x", "gtin": "7290000000015", "quantity": 500.0, "pack_count": 1.0}
    )
    found = find_anomalies(pd.concat(chains), items)
    assert found[["chain_id", "reason", "evidence"]].values.tolist() == [["C", "decimal_shift", "still there"]]
    assert find_anomalies(pd.concat(chains)).empty and find_anomalies(pd.concat(chains).head(0)).empty


def test_the_score_counts_each_error_once_and_needs_the_right_store():
    found = pd.DataFrame(
        {
            "chain_id": "A",
            "store_id": ["1", "1", "2"],
            "item_code": "x",
            "starts_on": [date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 1)],
            "ends_on": [date(2026, 5, 1), date(2026, 5, 2), date(2026, 5, 1)],
        }
    )
    events = pd.DataFrame(
        {
            "chain_id": "A",
            "store_id": ["1", "3"],
            "item_code": "x",
            "starts_on": date(2026, 5, 1),
            "ends_on": date(2026, 5, 2),
        }
    )
    score = score_anomalies(found, events).set_index("metric")["value"]
    assert score["precision"] == pytest.approx(2 / 3) and score["recall"] == 0.5
    everywhere = score_anomalies(found, events.assign(store_id=[None, "3"])).set_index("metric")["value"]
    assert everywhere["precision"] == 1.0


def test_a_silent_store_is_stale_and_an_old_file_does_not_stretch_the_history(tmp_path):
    "One file of ten years ago beside two weeks of today: the history is two weeks, and the silent store is not in it."
    from grocery.feeds.names import parse_name
    from grocery.prices.metrics import make_daily, read_history
    from grocery.store.ingest import ingest
    from grocery.store.lake import open_lake

    item = "<Item><ItemCode>7290000000015</ItemCode><ItemName>חלב</ItemName><ItemPrice>{}</ItemPrice></Item>"
    names = [
        "PriceFull7290000000001-002-201506010600.xml",
        *(f"PriceFull7290000000001-001-202603{d:02}0600.xml" for d in range(1, 15)),
    ]
    for name in names:
        store = parse_name(name).store_id
        text = f"<Root><ChainId>7290000000001</ChainId><StoreId>{store}</StoreId><Items>{item.format('6.90')}</Items></Root>"
        (tmp_path / name).write_text(text, encoding="utf-8")
    ingest([tmp_path / name for name in names], open_lake(tmp_path / "lake"), workers=1)
    prices, days = read_history(open_lake(tmp_path / "lake"))
    assert [str(days[0].date()), str(days[-1].date())] == ["2026-03-01", "2026-03-14"]
    daily = make_daily(prices, days)
    assert set(daily["store_id"]) == {"001"} and len(daily) == 14
