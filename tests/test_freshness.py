"Who is late is told within one usual gap, and hardly anybody else is blamed; what is listed and not sold is found."

from datetime import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.sample.market import make_sample_market, read_truth
from grocery.store.freshness import find_unsold, make_availability, make_freshness, measure_open_hours, score_lateness
from grocery.store.lake import open_lake
from grocery.tables import ISRAEL, TABLES, make_table

KEY = ["chain_id", "store_id", "kind"]


def moments(*texts):
    return pd.to_datetime(list(texts)).tz_localize(ISRAEL)


# --- the clock that stands still -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        ("2026-06-01 06:10", "2026-06-02 06:10", 16),  # Monday to Tuesday
        ("2026-06-05 06:10", "2026-06-07 06:10", 16),  # Friday to Sunday
        ("2026-06-05 20:00", "2026-06-07 09:00", 5),
        ("2026-06-06 00:00", "2026-06-07 08:00", 0),  # Saturday and the night after
        ("2026-03-26 10:00", "2026-03-27 10:00", 16),  # the night in which summer time begins
        ("2026-10-24 23:00", "2026-10-25 09:00", 1),  # and ends
    ],
)
def test_hours_are_counted_while_chains_publish(since, until, hours):
    first, last = measure_open_hours(moments(since, until))
    assert last - first == pytest.approx(hours)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)), min_size=2, max_size=8))
def test_the_clock_never_runs_backwards_nor_faster_than_time(times):
    stamps = pd.DatetimeIndex(sorted(times)).tz_localize("UTC")
    hours, real = measure_open_hours(stamps), np.asarray((stamps - stamps[0]) / pd.Timedelta(hours=1))
    steps = np.diff(hours)
    assert (steps >= -1e-9).all() and (steps <= np.diff(real) + 1 + 1e-6).all()  # one hour: the night of winter time


# --- a sample market: lost files and a store that stops ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    "Sixty days of file names and times, and which full files were lost."
    folder = make_sample_market(tmp_path_factory.mktemp("late") / "market", seed=301, days=60, products=28)
    files, events = read_truth(folder, "files"), read_truth(folder, "events")
    seen = files.assign(
        store_id=files["store_id"].fillna(""), published_at=pd.to_datetime(files["published_at"], utc=True)
    )
    return seen[[*KEY, "published_at"]], events[events["kind"] == "lost_file"]


def late_at(seen, day, hour):
    now = pd.Timestamp(day).tz_localize(ISRAEL) + pd.Timedelta(hours=hour)
    table = score_lateness(seen, now)
    return table[table["is_late"].eq(True)]


def test_a_store_that_stops_is_told_within_one_usual_gap_and_its_sisters_are_not(market):
    seen, events = market
    full, lost = seen[seen["kind"] == "PriceFull"], set(events["chain_id"])
    days, stopped = pd.date_range("2026-06-08", "2026-06-19"), 0
    for number, chain_id in enumerate(sorted(set(full["chain_id"]) - lost)):
        chain = full[full["chain_id"] == chain_id]
        store_id, stops = chain["store_id"].iloc[0], days[3 * number].tz_localize(ISRAEL)
        silent = chain[(chain["store_id"] != store_id) | (chain["published_at"] < stops)]
        last = silent.loc[silent["store_id"] == store_id, "published_at"].max()
        late, now = silent.head(0), last + pd.Timedelta(hours=20)  # before the next file is due
        assert not score_lateness(silent, now)["is_late"].eq(True).any()
        while late.empty:
            now += pd.Timedelta(hours=2)
            table = score_lateness(silent, now)
            late = table[table["is_late"].eq(True)]
        assert late["store_id"].tolist() == [store_id]
        assert late["usual_hours"].item() < late["waited_hours"].item() <= 2 * late["usual_hours"].item()
        stopped += 1
    assert stopped >= 3


def test_full_files_in_time_are_not_blamed(market):
    "Every store, at two hours of each of the last thirty days: the only alarms are lost files of weekdays."
    seen, events = market
    lost = set(zip(events["chain_id"], events["store_id"], events["starts_on"], strict=True))
    false = watched = 0
    for day in pd.date_range("2026-06-01", "2026-06-30"):
        for hour in (12, 20):
            late = late_at(seen[seen["kind"].isin(["PriceFull", "PromoFull", "Stores"])], day, hour)
            near = {(day - pd.Timedelta(days=back)).date() for back in (0, 1)}
            false += sum(not any((row.chain_id, row.store_id, d) in lost for d in near) for row in late.itertuples())
            watched += 35
    assert false == 0 and watched > 2000


def test_updates_come_when_something_changes_and_are_seldom_blamed(market):
    seen, _ = market
    updates = seen[seen["kind"].isin(["Price", "Promo"])]
    counts = [
        (len(t), t["is_late"].sum())
        for day in pd.date_range("2026-06-01", "2026-06-30")
        for t in [score_lateness(updates, day.tz_localize(ISRAEL) + pd.Timedelta(hours=16))]
    ]
    assert sum(late for _, late in counts) / sum(n for n, _ in counts) < 0.06


def test_judging_twice_and_in_any_order_is_the_same(market):
    seen, _ = market
    now = moments("2026-06-20 12:00")[0]
    table = score_lateness(seen, now)
    pd.testing.assert_frame_equal(score_lateness(pd.concat([seen, seen]).sample(frac=1, random_state=1), now), table)
    later = seen[seen["published_at"] > now]
    assert len(later) and (score_lateness(seen[seen["published_at"] <= now], now)["last_seen_at"] <= now).all()


# --- small cases ---------------------------------------------------------------------------------------------------------------------------


def mornings(store, first, last, kind="PriceFull"):
    days = pd.date_range(first, last)
    days = days[days.weekday != 5] + pd.Timedelta(hours=6, minutes=10)
    return pd.DataFrame({"published_at": days.tz_localize(ISRAEL).tz_convert("UTC")}).assign(
        chain_id="A", store_id=store, kind=kind
    )


def test_a_new_store_has_its_chains_habit_and_the_first_of_all_has_none():
    seen = pd.concat([mornings("001", "2026-06-01", "2026-06-20"), mornings("002", "2026-06-15", "2026-06-16")])
    table = score_lateness(seen, moments("2026-06-21 23:00")[0]).set_index("store_id")
    assert table["habit"].to_dict() == {"001": "own", "002": "chain"} and table["is_late"].to_dict() == {
        "001": True,
        "002": True,
    }
    alone = score_lateness(mornings("001", "2026-06-01", "2026-06-02"), moments("2026-06-30 12:00")[0])
    assert alone["habit"].isna().all() and alone["is_late"].isna().all() and alone["late_hours"].isna().all()


def test_saturday_and_the_night_are_not_late():
    seen = mornings("001", "2026-05-01", "2026-06-05")
    for now in ("2026-06-05 23:59", "2026-06-06 12:00", "2026-06-07 07:59"):
        assert not score_lateness(seen, moments(now)[0])["is_late"].item()
    assert score_lateness(seen, moments("2026-06-07 14:00")[0])["is_late"].item()


def test_the_table_of_a_lake_keeps_its_contract_and_knows_files_of_many_stores(tmp_path):
    lake = open_lake(tmp_path / "lake")
    assert make_freshness(lake).empty
    seen = mornings("001", "2026-06-01", "2026-06-20")
    files = [
        {"file_id": str(n), "kind": "PriceFull", "published_at": at, "chain_id": None, "store_id": None}
        for n, at in enumerate(seen["published_at"])
    ]
    told = [
        {"file_id": f["file_id"], "chain_id": c, "store_id": "001", "published_at": f["published_at"], "is_full": True}
        for f in files
        for c in "AB"
    ]
    files.append(
        {"file_id": "s", "kind": "Stores", "published_at": files[0]["published_at"], "chain_id": "A", "store_id": None}
    )
    lake.overwrite("files", make_table("files", files))
    lake.overwrite("store_files", make_table("store_files", told))
    table = make_freshness(lake, "2026-06-21 20:00")
    assert list(table.columns) == TABLES["freshness"].schema.names and lake.read("freshness").num_rows == 3
    assert set(map(tuple, table[KEY].to_numpy())) == {
        ("A", "001", "PriceFull"),
        ("B", "001", "PriceFull"),
        ("A", "", "Stores"),
    }
    assert (
        table.set_index("kind").loc["PriceFull", "is_late"].all() and not make_freshness(lake)["is_late"].eq(True).any()
    )


def test_what_is_listed_and_not_sold_is_found(tmp_path):
    lake, now = open_lake(tmp_path / "lake"), pd.Timestamp("2026-06-20 12:00", tz="UTC")
    item = {"chain_id": "A", "store_id": "001", "price_ils": Decimal("6.90"), "valid_from": now - pd.Timedelta(days=90)}
    lake.overwrite(
        "prices",
        make_table(
            "prices", [item | {"item_code": code} for code in "12345"] + [item | {"item_code": "9", "valid_to": now}]
        ),
    )
    ago = {"1": 0.5, "2": 6, "3": 29, "4": 31, "9": 300}
    lake.overwrite(
        "last_sales",
        make_table(
            "last_sales",
            [
                {"chain_id": "A", "store_id": "001", "item_code": c, "last_sale_at": now - pd.Timedelta(days=d)}
                for c, d in ago.items()
            ],
        ),
    )
    row = make_availability(lake, now).iloc[0]
    assert (row["listed"], row["told"], row["sold_1d"], row["sold_7d"], row["sold_30d"]) == (5, 4, 0.25, 0.5, 0.75)
    assert find_unsold(lake, 30, now)["item_code"].tolist() == ["4"] and find_unsold(lake, 5, now)[
        "item_code"
    ].tolist() == ["4", "3", "2"]
