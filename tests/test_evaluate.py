"""What hunts in the evaluation: links, prices and ledgers that are wrong on purpose, and evidently on data that did and did not drift."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from grocery.evaluate import (
    COLUMNS,
    make_drift,
    make_evaluation,
    make_unit_prices,
    score_drift,
    score_lake,
    score_ledgers,
    score_links,
    score_models,
    score_prices,
)
from grocery.store.lake import open_lake

METRIC = {"metric": "mrr", "split": "test", "n": 10}


def figures(*rows, **more) -> pd.DataFrame:
    columns = ["model", "value", "low", "high", "is_baseline", "is_chosen"]
    return pd.DataFrame(rows, columns=columns).assign(**(METRIC | more))


def test_better_needs_the_whole_interval_and_the_strongest_baseline():
    weak, strong = ("majority", 0.2, 0.1, 0.3, True, False), ("tfidf", 0.6, 0.5, 0.7, True, False)
    (sure,) = score_models("a", figures(weak, strong, ("net", 0.8, 0.7, 0.9, False, True)))
    assert sure["baseline"] == "tfidf" and sure["better"] is True
    (unsure,) = score_models("a", figures(weak, strong, ("net", 0.7, 0.55, 0.9, False, True)))
    assert unsure["better"] is False
    (less,) = score_models("a", figures(strong, ("net", 0.5, 0.4, 0.55, False, True), metric="mae_share"))
    assert less["better"] is True
    (kept,) = score_models("a", figures(strong[:5] + (True,), ("net", 0.5, 0.4, 0.9, False, False), metric="mae_share"))
    assert kept["better"] is False and "baseline tfidf is used" in kept["note"]


def test_each_level_is_judged_apart_and_validation_is_not_looked_at():
    rows = figures(("last_value", 0.1, 0.05, 0.2, True, True), metric="mae_share")
    both = pd.concat(
        [rows.assign(level="item"), rows.assign(level="index"), rows.assign(level="index", split="validation", value=9)]
    )
    scored = score_models("forecast", both)
    assert [r["area"] for r in scored] == ["forecast: item", "forecast: index"] and {r["value"] for r in scored} == {
        0.1
    }


def test_an_empty_house_says_so(tmp_path):
    lake = open_lake(tmp_path / "lake")
    first, last, note = make_unit_prices(lake)
    table = make_evaluation(
        score_models("a", pd.DataFrame()), score_lake(lake, ""), score_drift(make_drift(first, last), note)
    )
    assert list(table.columns) == COLUMNS and table["value"].isna().all() and (table["note"] != "").all()
    assert note == "not enough history: 0 days, 28 needed"
    assert str(table["better"].dtype) == "boolean"


def test_a_wrong_price_and_an_unseen_shortage_are_counted():
    shelf = {"chain_id": "A", "store_id": "001", "item_code": "1"}
    moment = datetime(2026, 3, 1, 4, tzinfo=UTC)
    prices = pd.DataFrame([shelf | {"price_ils": 5.0, "valid_from": moment, "valid_to": None}])
    prices[["valid_from", "valid_to"]] = prices[["valid_from", "valid_to"]].apply(pd.to_datetime, utc=True)
    days = [date(2026, 3, d) for d in range(1, 5)]
    true = pd.DataFrame([shelf | {"day": d, "published_price_ils": 5.0, "available": True} for d in days])
    true.loc[1, "published_price_ils"], true.loc[3, "available"] = 6.0, False
    right, shortage = score_prices(prices, true)
    assert right["value"] == pytest.approx(2 / 3) and right["n"] == 3 and shortage["value"] == 0


def test_wrong_links_cost_precision_and_missing_links_cost_recall():
    true = pd.DataFrame(
        {"chain_id": list("ABCD"), "item_code": list("1234"), "item_name": list("wxyz"), "product_id": list("ppqq")}
    )
    wrong = true.assign(product_id="one")
    precision, recall, _ = score_links(wrong, true)
    assert precision["value"] == pytest.approx(2 / 6) and recall["value"] == 1
    precision, recall, _ = score_links(true.head(2), true)
    assert precision["value"] == 1 and recall["value"] == 0.5


def test_files_that_are_missing_miscounted_or_held_twice(tmp_path):
    (tmp_path / "again.xml").write_bytes(b"same")
    digest = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"
    mine = pd.DataFrame(
        {
            "path": ["a.xml", "b.xml"],
            "file_id": ["x", "y"],
            "sha256": [digest, "z"],
            "rows_in": [4, 3],
            "complete": [True, True],
        }
    )
    true = pd.DataFrame(
        {
            "path": ["a.xml", "b.xml", "again.xml", "gone.xml"],
            "records": [4, 5, 4, 1],
            "complete": [True, False, True, True],
        }
    )
    held, counted, damage = score_ledgers(mine, true, tmp_path)
    assert (held["value"], counted["value"], damage["value"]) == (0.75, 0.5, 0.5)


@pytest.mark.slow
def test_evidently_sees_drift_where_it_is(tmp_path):
    rng = np.random.default_rng(1)
    names = np.repeat(["milk", "eggs & <b>"], 300)
    first = pd.DataFrame({"category": names, "unit_price_ils": rng.normal(2.0, 0.3, 600)})
    last = first.assign(unit_price_ils=first["unit_price_ils"] * np.where(names == "milk", 1.0, 1.3))
    drift = make_drift(first, last, tmp_path / "drift.html").set_index("category")
    assert drift["drifted"].to_dict() == {"eggs & <b>": True, "milk": False}
    assert drift.loc["eggs & <b>", "change"] == pytest.approx(0.3, abs=0.01)
    assert (tmp_path / "drift.html").stat().st_size > 100_000
    assert score_drift(drift.reset_index())[0]["value"] == 0.5
