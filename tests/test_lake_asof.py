"""Two pasts: valid then, by everything known today; and known then, to the last row."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_ingest import PROMO, PROMOTION_ITEM, everything, run_cli, write_market

from grocery.errors import LakeError
from grocery.store.ingest import ingest
from grocery.store.lake import find_commit, open_lake
from grocery.tables import TABLES, make_table

FULL = "<Root><ChainId>7290000000001</ChainId><StoreId>{}</StoreId><Items>{}</Items></Root>"
ITEM = "<Item><ItemCode>{}</ItemCode><ItemName>{}</ItemName><ItemPrice>{}</ItemPrice></Item>"


def write_full(folder: Path, day: int, items: dict[int, tuple[str, str]], store: int = 1) -> Path:
    path = folder / f"PriceFull7290000000001-{store:03}-202603{day:02}0600.xml"
    path.write_text(FULL.format(store, "".join(ITEM.format(c, *about) for c, about in items.items())))
    return path


def write_promotion(folder: Path, day: int, number: int, items: list[int]) -> Path:
    path = folder / f"PromoFull7290000000001-001-202603{day:02}0700.xml"
    xml = PROMO.format(1, "".join(map(PROMOTION_ITEM.format, items))).replace(">77<", f">{number}<")
    path.write_text(xml)
    return path


def column(lake, query: str) -> list:
    return lake.sql(query).column(0).to_pylist()


@pytest.fixture
def place(tmp_path) -> Path:
    "A day that came first, and the day before it that came late."
    second = [
        write_full(tmp_path, 2, {1: ("milk", "6.90"), 2: ("eggs", "12.00")}),
        write_promotion(tmp_path, 2, 5, [1]),
    ]
    first = [write_full(tmp_path, 1, {1: ("milk!", "6.50")}), write_promotion(tmp_path, 1, 4, [1, 2])]
    for paths in (second, first):
        ingest(paths, open_lake(tmp_path / "lake"), workers=1)
        time.sleep(0.01)
    return tmp_path / "lake"


def test_valid_then_counts_a_late_file(place):
    said = {}
    for moment in ("2026-02-28", "2026-03-01", "2026-03-02", None):
        lake = open_lake(place, as_of=moment)
        said[moment] = [
            column(lake, "SELECT item_name FROM items ORDER BY 1"),
            column(lake, "SELECT promotion_id FROM promotions ORDER BY 1"),
            column(lake, "SELECT promotion_id || ' ' || item_code FROM promotion_items ORDER BY 1"),
            [str(p) for p in column(lake, "SELECT price_ils FROM prices_now ORDER BY item_code")],
        ]
    assert said["2026-02-28"] == [[], [], [], []]
    assert said["2026-03-01"] == [["milk"], ["4"], ["4 1", "4 2"], ["6.5000"]]  # in the words of the newest file
    now = [["eggs", "milk"], ["4", "5"], ["4 1", "4 2", "5 1"], ["6.9000", "12.0000"]]
    assert said["2026-03-02"] == said[None] == now


def test_nothing_seen_later_shows(place):
    noon = datetime(2026, 3, 1, 10, tzinfo=UTC)
    last = {name: f"SELECT max(last_seen_at) FROM {name}" for name in ("items", "promotions")}
    assert column(open_lake(place, as_of="2026-03-01T12:00"), last["items"]) == [noon]  # seen on the next day too
    assert column(open_lake(place, as_of="2026-03-01T12:00"), last["promotions"])[0] < noon
    assert all(column(open_lake(place), query)[0] > noon for query in last.values())


def test_stores_are_those_that_had_been_named(tmp_path):
    store = "<Store><StoreID>{}</StoreID><StoreName>{}</StoreName><City>חיפה</City></Store>"
    xml = "<Root><ChainID>7290000000001</ChainID><SubChains><SubChain><SubChainID>1</SubChainID><Stores>{}</Stores></SubChain></SubChains></Root>"
    for day, names in ((1, ["old"]), (3, ["new name", "second"])):
        text = "".join(store.format(n + 1, name) for n, name in enumerate(names))
        path = tmp_path / f"Stores7290000000001-000-202603{day:02}0500.xml"
        path.write_text(xml.format(text))
        ingest(path, open_lake(tmp_path / "lake"), workers=1)
    names = {
        m: column(open_lake(tmp_path / "lake", as_of=m), "SELECT store_id FROM stores ORDER BY 1")
        for m in ("2026-03-02", None)
    }
    assert names == {"2026-03-02": ["001"], None: ["001", "002"]}


def test_known_then_is_the_lake_of_then(tmp_path):
    paths = write_market(tmp_path / "feeds", days=4, stores=1)
    lake, then = tmp_path / "lake", {}
    for n in range(0, len(paths), 2):
        ingest(paths[n : n + 2], open_lake(lake), workers=1)
        open_lake(lake).overwrite("products", make_table("products", [{"product_id": str(n)}]))
        time.sleep(0.01)
        moment = datetime.now(UTC)
        then[open_lake(lake).versions()["files"], moment] = everything(lake)
        time.sleep(0.01)
    assert len(then) == 4
    for (version, moment), all_of_it in then.items():
        at = open_lake(lake, known_at=moment)
        assert {n: sorted(map(repr, _rows(at, n))) for n in all_of_it} == all_of_it
        cited = open_lake(lake, version=version)
        for name in ("files", "prices", "items", "store_files"):
            assert sorted(map(repr, _rows(cited, name))) == all_of_it[name]
    assert open_lake(lake, known_at="2020-01-01").read("prices").num_rows == 0
    assert open_lake(lake, known_at="2020-01-01").sql("SELECT * FROM products").num_rows == 0


def _rows(lake, name: str):
    frame = lake.read(name).to_pandas().drop(columns=["ingested_at", "code_version"], errors="ignore")
    return frame.itertuples(index=False, name=None)


def test_both_at_once(place):
    "What was believed, after the first commit, to have held on the first day: nothing, since its file came late."
    query = "SELECT count(*) FROM prices_now"
    first = open_lake(place, version=1).versions()["files"]
    assert column(open_lake(place, as_of="2026-03-01"), query) == [1]
    assert column(open_lake(place, as_of="2026-03-01", version=first), query) == [0]


def test_wrong_moments_and_versions(place):
    last = open_lake(place).versions()["files"]
    for version in (-1, last + 1):
        with pytest.raises(LakeError, match=f"allowed: 0 to {last}"):
            open_lake(place, version=version).sql("SELECT 1 FROM prices")
    with pytest.raises(LakeError, match="one of the two"):
        open_lake(place, version=1, known_at="2026-03-01")
    with pytest.raises(LakeError, match="moment"):
        open_lake(place, known_at="yesterday")
    with pytest.raises(LakeError, match="as it was"):
        open_lake(place, version=1).overwrite("products", TABLES["products"].schema.empty_table())
    done = run_cli("sql", "SELECT count(*) AS n FROM files", "--lake", place, "--version", 1, "--format", "json")
    assert json.loads(done.stdout) == [{"n": 2}], done.stderr
    assert run_cli("sql", "SELECT 1 FROM files", "--lake", place, "--version", 99).returncode == 2


def test_an_old_lake_without_the_newer_columns_is_read_and_written(tmp_path):
    "Its rows have null there; what is added has all."
    from deltalake import write_deltalake

    old = {}
    for name, missing in (("items", ["first_seen_at", "last_seen_at"]), ("files", ["fetched_at"])):
        table = make_table(
            name, [{"chain_id": "7290000000001", "file_id": "old"} | ({"item_code": "9"} if name == "items" else {})]
        )
        old[name] = table.drop_columns(missing)
        partitions = ["chain_id"] if name == "items" else None
        write_deltalake(str(tmp_path / "lake" / name), old[name], partition_by=partitions)
    lake = open_lake(tmp_path / "lake")
    assert lake.read("items").to_pylist()[0]["first_seen_at"] is None
    assert column(lake, "SELECT fetched_at FROM files") == [None]
    assert column(open_lake(tmp_path / "lake", as_of="2026-03-01"), "SELECT item_code FROM items") == ["9"]
    ingest(write_full(tmp_path, 2, {1: ("milk", "6.90")}), lake, workers=1)
    assert lake.sql("SELECT item_code, first_seen_at IS NULL AS n FROM items ORDER BY 1").to_pylist() == [
        {"item_code": "1", "n": False},
        {"item_code": "9", "n": False},  # a row that is written again learns when its file was published
    ] or column(lake, "SELECT first_seen_at IS NULL FROM items ORDER BY item_code") == [False, True]
    assert open_lake(tmp_path / "lake").read("files").num_rows == 2


def test_where_a_file_was_fetched_from_is_known(tmp_path):
    import hashlib

    path = write_full(tmp_path, 2, {1: ("milk", "6.90")})
    line = {
        "name": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "fetched_at": "2026-03-02T05:00:00+00:00",
    }
    (tmp_path / ".manifest.jsonl").write_text(json.dumps(line) + '\n{"sha256": "cut')
    ingest(path, open_lake(tmp_path / "lake"), workers=1)
    assert column(open_lake(tmp_path / "lake"), "SELECT fetched_at FROM files") == [datetime(2026, 3, 2, 5, tzinfo=UTC)]


def test_a_version_shows_tables_of_which_files_do_not_speak_as_they_were_then(tmp_path):
    lake = open_lake(tmp_path / "lake")
    paths = sorted(write_market(tmp_path / "feeds", days=3, stores=1), key=lambda p: p.name[-13:])
    versions = []
    for number, path in enumerate(paths[:3]):
        ingest(path, lake, workers=1)
        versions.append(lake.versions()["files"])
        lake.overwrite("products", make_table("products", [{"product_id": str(number)}]))
    found = [open_lake(lake.path, version=n).read("products")["product_id"].to_pylist() for n in versions]
    assert found == [[], ["0"], ["1"]] and lake.read("products")["product_id"].to_pylist() == ["2"]
    times = [find_commit(lake.path, "products", n)["timestamp"] for n in range(3)]
    assert times == sorted(set(times)) and find_commit(lake.path, "products", 3) == {}
