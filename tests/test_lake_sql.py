"""Questions to a lake: quick, and with no way out of it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from grocery.errors import LakeError
from grocery.store.ingest import ingest
from grocery.store.lake import open_lake

FEED = "<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items>{}</Items></Root>"
ITEM = "<Item><ItemCode>{}</ItemCode><ItemName>חלב</ItemName><ItemPrice>{}</ItemPrice></Item>"


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    path = tmp_path_factory.mktemp("feeds") / "PriceFull7290000000001-001-202603010600.xml"
    path.write_text(FEED.format("".join(ITEM.format(n, n) for n in range(5, 9))))
    return path


@pytest.mark.parametrize("name", ["plain", "with blank", "it's", "קניות", "a*b", "a?b", "semi;colon", "a#b"])
def test_a_lake_of_any_name_answers(feed, tmp_path, name):
    ingest(feed, open_lake(tmp_path / name), workers=1)
    lake = open_lake(tmp_path / name)
    assert lake.sql("SELECT count(*) AS n FROM prices").to_pylist() == [{"n": 4}]
    assert (
        lake.sql("SELECT chain_id, sum(price_ils) AS s FROM prices_now GROUP BY 1").to_pylist()[0]["chain_id"]
        == "7290000000001"
    )
    assert lake.sql("SELECT count(*) AS n FROM promotions").to_pylist() == [{"n": 0}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_text('{lake}/../secret.txt')",
        "SELECT * FROM read_parquet('{other}/prices/*/*.parquet')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM '{lake}x/secret.txt'",
        "COPY (SELECT 1) TO '{lake}/out.csv'",
        "SET allowed_directories = ['/']",
        "ATTACH '{lake}/x.db'",
        "SELECT 1; SELECT 2",
    ],
)
def test_a_question_reaches_nothing_but_the_lake(feed, tmp_path, query):
    for name in ("lake", "other"):
        ingest(feed, open_lake(tmp_path / name), workers=1)
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(LakeError, match="cannot be answered"):
        open_lake(tmp_path / "lake").sql(query.format(lake=tmp_path / "lake", other=tmp_path / "other"))
    assert not (tmp_path / "lake" / "out.csv").exists()


def test_a_lake_made_anew_in_the_same_place_is_seen_as_it_is(feed, tmp_path):
    import shutil

    lake = open_lake(tmp_path / "lake")
    for price in ("1", "2"):
        path = tmp_path / feed.name
        path.write_text(FEED.format(ITEM.format(7, price)))
        ingest(path, lake, workers=1)
        assert lake.sql("SELECT CAST(price_ils AS DOUBLE) AS p FROM prices").to_pylist() == [{"p": float(price)}]
        shutil.rmtree(tmp_path / "lake")
    assert lake.sql("SELECT count(*) AS n FROM prices").to_pylist() == [{"n": 0}]


def test_each_question_has_its_own_moment(tmp_path):
    "Connections are used again, also by several threads at once: none may keep the moment of the question before."
    lake, days = tmp_path / "lake", range(1, 6)
    for day in days:
        path = tmp_path / f"PriceFull7290000000001-001-2026030{day}0600.xml"
        path.write_text(FEED.format(ITEM.format(7, day)))
        ingest(path, open_lake(lake), workers=1)
    query = "SELECT CAST(price_ils AS INT) AS p FROM prices WHERE valid_to IS NULL"

    def ask(day):
        if day % 7 == 0:
            with pytest.raises(LakeError):
                open_lake(lake, as_of="2026-03-02").sql("SELECT no_such_column FROM prices")
        if day == 0:
            return open_lake(lake).sql(query)["p"].to_pylist() == [5]
        return open_lake(lake, as_of=f"2026-03-0{day}").sql(query)["p"].to_pylist() == [day]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, [0, 1, 2, 3, 4, 5] * 30))
    assert open_lake(lake, as_of="2026-02-28").sql(query).num_rows == 0


@pytest.mark.parametrize("name", ["a[b]", "a%20b", "a\\b", "a\0b"])
def test_a_path_that_delta_cannot_hold_is_said_at_once(tmp_path, name):
    with pytest.raises(LakeError, match="Allowed: a path without"):
        open_lake(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    "query",
    [
        "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{lake}/out.csv'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1 AS a) TO '{lake}/out.csv'",
        "explain\nanalyze copy (select 1 as a) to '{lake}/out.csv'",
        "/* */ EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{lake}/out.csv'",
        "EXPLAIN ANALYZE EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{lake}/out.csv'",
        "EXPLAIN ANALYZE CREATE OR REPLACE MACRO main.sum(x) AS 42",
        "EXPLAIN ANALYZE CREATE TABLE kept AS SELECT 1",
        "EXPLAIN ANALYZE SET VARIABLE moment = 1",
    ],
)
def test_to_explain_a_question_does_nothing_else(feed, tmp_path, query):
    lake = open_lake(tmp_path / "lake")
    ingest(feed, lake, workers=1)
    before = {p: p.read_bytes() for p in (tmp_path / "lake").rglob("*") if p.is_file()}
    with pytest.raises(LakeError, match="cannot be answered"):
        lake.sql(query.format(lake=lake.path))
    assert {p: p.read_bytes() for p in (tmp_path / "lake").rglob("*") if p.is_file()} == before
    assert lake.sql("SELECT CAST(sum(price_ils) AS INT) AS s FROM prices").to_pylist() == [{"s": 26}]
    with pytest.raises(LakeError):
        lake.sql("SELECT * FROM kept")
    assert lake.sql("EXPLAIN ANALYZE SELECT * FROM prices").num_rows


@pytest.mark.parametrize("moment", ["9999-12-31", "0001-01-01T00:00"])
def test_a_moment_beyond_the_calendar_is_said(tmp_path, moment):
    with pytest.raises(LakeError, match="years 2 to 9998"):
        open_lake(tmp_path, as_of=moment)


@pytest.mark.parametrize(
    "address", ["s3://KEY:hush@bucket/p", "https://user:hush@host/p", "az://a/x?sig=hush", "ftp://b/p?secret=hush"]
)
def test_no_message_shows_a_secret(address, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "user:hush@127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    with pytest.raises(LakeError) as error:
        open_lake(address).sql("SELECT * FROM prices")
    assert "hush" not in str(error.value)


def test_a_lake_that_has_grown_a_column_answers(feed, tmp_path):
    "Files made before a column was, beside files that have it: each gives what it has."
    import pyarrow as pa
    from deltalake import write_deltalake

    from grocery.tables import TABLES

    old = pa.table({"chain_id": ["1"], "store_id": ["1"], "promotion_id": ["7"]})
    write_deltalake(tmp_path / "lake" / "promotions", old, partition_by=["chain_id"])
    lake = open_lake(tmp_path / "lake")
    assert lake.sql("SELECT promotion_id, withdrawn_at FROM promotions").to_pylist() == [
        {"promotion_id": "7", "withdrawn_at": None}
    ]
    new = TABLES["promotions"].schema.empty_table().to_pylist() or [dict.fromkeys(TABLES["promotions"].schema.names)]
    new[0] |= {"chain_id": "1", "store_id": "1", "promotion_id": "8", "description": "x"}
    lake.append("promotions", pa.Table.from_pylist(new, TABLES["promotions"].schema))
    assert lake.sql("SELECT promotion_id, description FROM promotions ORDER BY 1").to_pylist() == [
        {"promotion_id": "7", "description": None},
        {"promotion_id": "8", "description": "x"},
    ]
