"""The history must not depend on the order in which files arrive; a naive day-by-day walk is the judge."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.store.history import extend_history, fold, make_timeline, unfold

COLUMNS = ["item_code", "sub_chain_id", "price_ils", "allow_discount", "file_id"]
EMPTY = pd.DataFrame(columns=[*COLUMNS, "valid_from", "valid_to"])
NO_MARKS = pd.DataFrame(columns=["item_code", "file_id"])


@st.composite
def stores(draw):
    "A handful of files of one store: (hour, is_full, {item: price}); hours may coincide."
    file = st.tuples(
        st.integers(0, 12), st.booleans(), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), max_size=4)
    )
    return draw(st.lists(file, min_size=1, max_size=7))


def as_frames(market):
    start = pd.Timestamp("2026-03-01", tz="UTC")
    files = pd.DataFrame(
        [(f"f{n}", start + pd.Timedelta(hours=hour), full) for n, (hour, full, _) in enumerate(market)],
        columns=["file_id", "published_at", "is_full"],
    )
    rows = [(i, "1", p, True, f"f{n}") for n, (_, _, said) in enumerate(market) for i, p in said.items()]
    return files, pd.DataFrame(rows, columns=COLUMNS)


def walk(market):
    "The judge: replay files one by one and keep what is on the shelf after each instant."
    order = sorted(range(len(market)), key=lambda n: (market[n][0], not market[n][1], f"f{n}"))
    shelf, after = {}, {}
    for n in order:
        hour, full, said = market[n]
        shelf = dict(said) if full else {**shelf, **said}
        after[hour] = dict(shelf)
    return after


def shelf_at(history, hour):
    at = pd.Timestamp("2026-03-01", tz="UTC") + pd.Timedelta(hours=hour)
    valid = history[(history["valid_from"] <= at) & ~(history["valid_to"] <= at)]
    assert valid["item_code"].is_unique
    return dict(zip(valid["item_code"], valid["price_ils"], strict=True))


def join(*frames):
    "Put frames under one another; empty ones do not decide types."
    return pd.concat([f for f in frames if len(f)] or frames[:1])


def tell(files, said, groups):
    history, marks, done = EMPTY, NO_MARKS, files.iloc[:0]
    for names in groups:
        new = files[files["file_id"].isin(names)]
        history, marks = extend_history(history, marks, done, new, said[said["file_id"].isin(names)])
        done = join(done, new)
    key = ["item_code", "valid_from"]
    return history.sort_values(key).reset_index(drop=True)[[*COLUMNS, "valid_from", "valid_to"]]


@settings(max_examples=60, deadline=None)
@given(stores())
def test_history_says_what_a_walk_through_the_files_says(market):
    files, said = as_frames(market)
    history, _ = fold(said, make_timeline(files))
    for hour, shelf in walk(market).items():
        assert shelf_at(history, hour) == shelf


@settings(max_examples=60, deadline=None)
@given(stores(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_history(market, random):
    files, said = as_frames(market)
    names = list(files["file_id"])
    at_once = tell(files, said, [names])
    random.shuffle(names)
    one_by_one = tell(files, said, [[n] for n in names])
    walk_says, hours = walk(market), sorted(walk(market))
    assert [shelf_at(one_by_one, h) for h in hours] == [walk_says[h] for h in hours]
    pd.testing.assert_frame_equal(one_by_one, at_once, check_dtype=False)


@settings(max_examples=40, deadline=None)
@given(stores())
def test_unfold_is_the_inverse_of_fold(market):
    files, said = as_frames(market)
    timeline = make_timeline(files)
    history, marks = fold(said, timeline)
    again, marks_again = fold(unfold(history, marks, timeline), timeline)
    pd.testing.assert_frame_equal(again, history, check_dtype=False)
    pd.testing.assert_frame_equal(marks_again, marks, check_dtype=False)


def test_an_item_missing_from_an_update_goes_on_and_from_a_full_file_ends():
    update, full = (
        [(0, True, {"a": 1, "b": 1}), (5, False, {"a": 2})],
        [(0, True, {"a": 1, "b": 1}), (5, True, {"a": 2})],
    )
    for market, open_items in ((update, {"a", "b"}), (full, {"a"})):
        files, said = as_frames(market)
        history, _ = fold(said, make_timeline(files))
        assert set(history.loc[history["valid_to"].isna(), "item_code"]) == open_items


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_late_file_between_an_update_that_changed_nothing(order):
    "An update repeats a price; a late file before it says another: the repeated price must come back at the update."
    files, said = as_frames([(0, True, {"a": 1}), (8, False, {"a": 1}), (4, False, {"a": 2})])
    history = tell(files, said, [[f"f{n}"] for n in order])
    assert history["price_ils"].tolist() == [1, 2, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(stores(), min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_many_stores_at_once_are_each_store_alone(markets, random):
    "Stores are folded together, their files in any two portions; each comes out as if it were the only one."
    apart = [as_frames(market) for market in markets]
    files, said = (
        pd.concat([frames[k].assign(store_id=f"{n:03}") for n, frames in enumerate(apart)], ignore_index=True)
        for k in (0, 1)
    )
    history, marks, done = EMPTY.assign(store_id=""), NO_MARKS.assign(store_id=""), files.iloc[:0]
    first = files.index.isin(random.sample(range(len(files)), len(files) // 2))
    for new in (files[first], files[~first]):
        heard = said.merge(new[["store_id", "file_id"]])
        touched = history["store_id"].isin(new["store_id"])
        told, marks = extend_history(history[touched], marks, done, new, heard)
        history, done = join(history[~touched], told), join(done, new)
    key = [*COLUMNS, "valid_from", "valid_to"]
    for n, (own_files, own_said) in enumerate(apart):
        together = history[history["store_id"] == f"{n:03}"].sort_values(["item_code", "valid_from"])[key]
        alone = tell(own_files, own_said, [list(own_files["file_id"])])
        pd.testing.assert_frame_equal(together.reset_index(drop=True), alone, check_dtype=False)
