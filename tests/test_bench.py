"""What the benches print."""

import pytest

from grocery.bench import _Country, _fill, _World, bench_lake
from grocery.errors import GroceryError


@pytest.fixture(scope="module")
def measured():
    return [bench_lake(3, 40, 5, share=0.2, rounds=2, feed_days=days)["metrics"] for days in (5, 2)]


def test_a_bench_of_the_lake_tells_what_it_is_asked_for(measured):
    "That both answer every question alike the bench itself checks."
    for name in ("bytes_per_observation", "ratio_bytes_gz", "ratio_bytes_parquet", "publish_full_s"):
        assert measured[0][name] > 0
    for question in ("as_of", "item", "store", "country"):
        assert measured[0][f"{question}_p95_ms"] >= measured[0][f"{question}_p50_ms"] > 0
        assert measured[0][f"{question}_ratio_parquet"] > 0
    assert measured[0]["observations"] == 3 * 40 * 5


def test_days_written_straight_into_the_tables_are_as_days_that_came_as_feeds(measured):
    feeds, straight = measured
    assert straight["parquet_bytes_per_observation"] == feeds["parquet_bytes_per_observation"]
    assert straight["gz_bytes_per_observation"] == pytest.approx(feeds["gz_bytes_per_observation"], rel=0.01)
    assert straight["bytes_per_observation"] == pytest.approx(feeds["bytes_per_observation"], rel=0.4)


def test_they_leave_the_same_prices_and_timelines(tmp_path):
    "Row for row; only a file's id is another, since there is no file."
    told = []
    for name, feed_days in (("feeds", 5), ("straight", 2)):
        (tmp_path / name).mkdir()
        world = _World(_Country(3, 40, 5, 0.2, 7), str(tmp_path / name), "cerberus", 2)
        for _ in range(feed_days):
            world.next_day()
        _fill(world, 5 - feed_days)
        query = "SELECT * EXCLUDE (file_id) FROM {} ORDER BY ALL"
        told.append([world.lake.sql(query.format(table)).to_pylist() for table in ("prices", "store_files")])
    assert told[0] == told[1] and len(told[0][0]) > 3 * 40 and len(told[0][1]) == 15


def test_more_items_than_the_market_has_is_said():
    with pytest.raises(GroceryError, match="allowed: up to"):
        bench_lake(1, 50_000, 1)
