"""Publishing makes the database say what the lake says, at once or not at all; little by little it comes to the same; a backup brings everything back, into either database."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from test_ingest import write_market

from grocery.errors import DatabaseError, GroceryError, LakeError, SourceError
from grocery.serve import backup as bk
from grocery.serve import database as db
from grocery.serve import publish as pb
from grocery.serve import questions as ask
from grocery.serve.backup import backup, check_archive, read_archive, restore
from grocery.serve.publish import publish
from grocery.store.ingest import ingest
from grocery.store.lake import open_lake
from grocery.tables import TABLES, make_table
from grocery.text import fold

START = datetime(2026, 3, 1, tzinfo=UTC)


def rows_of(address, models=db.PUBLISHED) -> dict[str, list]:
    "Every row of the published tables, as Python values; the numbers of search_names are the database's own."
    engine, found = db.open_database(address), {}
    with engine.connect() as connection:
        for model in models:
            columns = [c for c in model.__table__.columns if not (model is db.SearchName and c.name == "id")]
            rows = [tuple(r) for r in connection.execute(sa.select(*columns))]
            found[model.__tablename__] = sorted(rows, key=repr)
    engine.dispose()
    return found


# --- a lake that changes -----------------------------------------------------------------------------------------------------------


class World:
    "What a lake could say, changed at random, and written to it."

    def __init__(self, path: Path, seed: int):
        self.lake, self.chance, self.day = open_lake(str(path)), random.Random(seed), 0
        self.stores = {("71", f"{n:03}"): {"city": "חיפה", "latitude": 32.0 + n} for n in range(1, 4)}
        self.items, self.links, self.products, self.prices = {}, {}, {}, {}
        self.promotions, self.promotion_items, self.seen = {}, {}, {}
        for n in range(12):
            self.add_item(f"{n:03}")
        self.write(*TABLES)

    def add_item(self, code: str) -> None:
        self.items["71", code] = {"item_name": f"מוצר {code}", "quantity": 100.0, "unit": "g"}
        for store in self.stores:
            self.prices[*store, code, START] = {
                "price_ils": Decimal(self.chance.randint(100, 9999)) / 100,
                "valid_to": None,
            }

    @property
    def now(self) -> datetime:
        return START + timedelta(days=self.day)

    def step(self) -> None:
        "Let a day pass in which some of everything changes."
        self.day += self.chance.choice([0, 1, 1, 3])
        before = {
            n: dict(getattr(self, n))
            for n in ("stores", "items", "links", "products", "prices", "promotions", "promotion_items", "seen")
        }
        for change in self.chance.sample(
            [self.reprice, self.rename, self.link, self.promote, self.move_store, self.come_and_go],
            self.chance.randint(0, 4),
        ):
            change()
        for store in self.stores:
            self.seen[f"f{self.day}", *store] = self.now
        names = {"links": "product_items", "seen": "store_files"}
        changed = [names.get(n, n) for n, was in before.items() if was != getattr(self, n)]
        self.write(*changed, append=self.chance.random() < 0.3)

    def reprice(self) -> None:
        for key in self.chance.sample(sorted(self.prices, key=str), 5):
            if self.prices[key]["valid_to"] is None and key[3] < self.now:
                end = self.chance.choice([self.now, self.now, self.now - timedelta(days=1)])
                self.prices[key] = self.prices[key] | {"valid_to": max(end, key[3] + timedelta(hours=1))}
                if self.chance.random() < 0.7:
                    new = Decimal(self.chance.randint(100, 9999)) / 100
                    self.prices[*key[:3], self.prices[key]["valid_to"]] = {"price_ils": new, "valid_to": None}

    def rename(self) -> None:
        key = self.chance.choice(sorted(self.items))
        self.items[key] = self.items[key] | self.chance.choice(
            [{"item_name": f"שם {self.day}"}, {"item_name": None}, {"quantity": 250.0}, {"file_id": str(self.day)}]
        )

    def link(self) -> None:
        for key in self.chance.sample(sorted(self.items), 3):
            product = self.chance.choice(["p1", "p2", None])
            self.links.pop(key, None) if product is None else self.links.update(
                {key: {"product_id": product, "score": self.chance.random()}}
            )
        self.products = {p: {"name_hebrew": f"{p} {self.chance.choice('אב')}"} for p in ("p1", "p2")}

    def promote(self) -> None:
        number = str(self.chance.randint(1, 8))
        store = self.chance.choice(sorted(self.stores))
        key = (*store, number)
        if self.chance.random() < 0.25:
            self.promotions.pop(key, None)
        else:
            ends = self.chance.choice(
                [None, self.now + timedelta(days=2), self.now - timedelta(days=20), self.now - timedelta(days=4)]
            )
            self.promotions[key] = {"description": f"מבצע {self.day}", "ends_at": ends}
        for code in self.chance.sample(sorted(c for _, c in self.items), 3):
            group = self.chance.choice([None, "1"])
            gone = self.chance.random() < 0.3
            self.promotion_items.pop((*key, group, code), None) if gone else self.promotion_items.update(
                {(*key, group, code): {"min_qty": float(self.day)}}
            )

    def move_store(self) -> None:
        key = self.chance.choice(sorted(self.stores))
        self.stores[key] = self.stores[key] | {"city": self.chance.choice(["חיפה", "עכו", None])}

    def come_and_go(self) -> None:
        code = f"{self.chance.randint(0, 30):03}"
        if ("71", code) in self.items and self.chance.random() < 0.5:
            self.items.pop(("71", code))
            self.prices = {k: v for k, v in self.prices.items() if k[2] != code}
        elif ("71", code) not in self.items:
            self.add_item(code)

    def tables(self) -> dict[str, pa.Table]:
        keys = {n: TABLES[n].key for n in ("stores", "items", "prices", "promotions", "promotion_items")}
        said = {n: [dict(zip(keys[n], k, strict=True)) | v for k, v in getattr(self, n).items()] for n in keys}
        said["products"] = [{"product_id": k} | v for k, v in self.products.items()]
        said["product_items"] = [{"chain_id": k[0], "item_code": k[1]} | v for k, v in self.links.items()]
        said["store_files"] = [
            dict(zip(("file_id", "chain_id", "store_id"), k, strict=True)) | {"published_at": v}
            for k, v in self.seen.items()
        ]
        return {n: make_table(n, rows) for n, rows in said.items()}

    def write(self, *names: str, append: bool = False) -> None:
        "Write tables: all of them anew, or in two pieces."
        for name, table in self.tables().items():
            if name in names:
                half = table.num_rows // 2 if append else table.num_rows
                self.lake.overwrite(name, table.slice(0, half))
                if half < table.num_rows:
                    self.lake.append(name, table.slice(half))


def expected(world: World, days: int) -> dict[str, set]:
    "What must be published, worked out by hand."
    newest = max(world.seen.values(), default=max(k[3] for k in world.prices))
    since = newest - timedelta(days=days)
    prices = {
        (*k, v["price_ils"], v["valid_to"])
        for k, v in world.prices.items()
        if v["valid_to"] is None or v["valid_to"] >= since
    }
    kept = {k for k, v in world.promotions.items() if v["ends_at"] is None or v["ends_at"] >= since}
    lines = {(*k[:3], k[3] or "", k[4], v["min_qty"]) for k, v in world.promotion_items.items() if k[:3] in kept}
    items = {
        (*k, world.links.get(k, {}).get("product_id"), v["item_name"], v["quantity"]) for k, v in world.items.items()
    }
    names = {(*k, fold(v["item_name"])) for k, v in world.items.items() if v["item_name"]}
    names |= {("", p, fold(v["name_hebrew"])) for p, v in world.products.items()}
    seen = {k: max((t for (_, *s), t in world.seen.items() if tuple(s) == k), default=None) for k in world.stores}
    stores = {(*k, v["city"], v["latitude"], seen[k]) for k, v in world.stores.items()}
    return {
        "prices": prices,
        "promotions": kept,
        "promotion_items": lines,
        "items": items,
        "search_names": names,
        "stores": stores,
    }


def said(address) -> dict[str, set]:
    columns = {
        "prices": "chain_id store_id item_code valid_from price_ils valid_to",
        "promotions": "chain_id store_id promotion_id",
        "promotion_items": "chain_id store_id promotion_id group_id item_code min_qty",
        "items": "chain_id item_code product_id item_name quantity",
        "search_names": "chain_id code text",
        "stores": "chain_id store_id city latitude prices_seen_at",
    }
    engine, found = db.open_database(address), {}
    with engine.connect() as connection:
        for name, wanted in columns.items():
            table = db.Base.metadata.tables[name]
            found[name] = {tuple(r) for r in connection.execute(sa.select(*(table.columns[c] for c in wanted.split())))}
    engine.dispose()
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_little_by_little_comes_to_the_same_as_all_at_once(address, seed, tmp_path, monkeypatch):
    monkeypatch.setattr(pb, "SHARE", 9.0)  # the lake is small, so that much of it changes in a step
    world, modes = World(tmp_path / "lake", seed), []
    publish(address, world.lake, days=7)
    for step in range(10):
        world.step()
        modes.append(publish(address, world.lake, days=7).mode)
        assert said(address) == expected(world, 7), (step, modes)
    everything = rows_of(address)
    fresh = tmp_path / "fresh.db"
    publish(fresh, world.lake, days=7)
    assert rows_of(fresh) == everything
    assert publish(address, world.lake, days=7, full=True).changed == dict.fromkeys(everything, 0)
    assert modes.count("incremental") >= 6 and "full" not in modes, modes


def test_files_are_published_as_they_come(address, tmp_path):
    paths = sorted(write_market(tmp_path / "feeds", days=6), key=lambda p: p.name[-15:])
    random.Random(5).shuffle(paths[6:])
    lake, modes = open_lake(tmp_path / "lake"), []
    for n in range(0, len(paths), 4):
        ingest(paths[n : n + 4], lake, workers=1)
        modes.append(publish(address, lake, days=3).mode)
    fresh = tmp_path / "fresh.db"
    publish(fresh, lake, days=3)
    assert rows_of(fresh) == rows_of(address) and modes[0] == "full" and "incremental" in modes
    now = lake.sql("SELECT chain_id, store_id, item_code, price_ils FROM prices_now").to_pylist()
    published = {(r[0], r[1], r[2], r[5]) for r in rows_of(address, [db.PriceRecord])["prices"] if r[4] is None}
    assert published == {tuple(r.values()) for r in now}


def lake_with(path: Path, prices: int = 50, **tables: list[dict]):
    lake = open_lake(str(path))
    many = [
        {
            "chain_id": "71",
            "store_id": f"{n % 7:03}",
            "item_code": f"{n}",
            "price_ils": Decimal("6.90"),
            "valid_from": START,
        }
        for n in range(prices)
    ]
    for name, rows in ({"prices": many} | tables).items():
        lake.overwrite(name, make_table(name, rows))
    return lake


def test_a_second_publish_of_the_same_lake_does_nothing(address, tmp_path):
    lake = lake_with(tmp_path / "lake")
    assert publish(address, lake).mode == "full"
    assert publish(address, lake).mode == "unchanged"
    lake.overwrite("prices", lake.read("prices"))  # another version that says the same, as compaction makes
    again = publish(address, lake)
    assert (again.mode, sum(again.changed.values())) == ("incremental", 0)


def test_where_what_changed_cannot_be_told_everything_is_compared(address, tmp_path):
    from deltalake import DeltaTable

    lake = lake_with(tmp_path / "lake")
    publish(address, lake)
    lake.overwrite("prices", lake.read("prices").slice(3))
    table = DeltaTable(str(tmp_path / "lake/prices"))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    done = publish(address, lake)
    assert (done.mode, done.changed["prices"], done.rows["prices"]) == ("full", 3, 47) and "cannot be told" in done.why


def test_a_lake_that_was_put_back_from_a_copy_is_compared_with_all(address, tmp_path):
    "It counts on from an older version: the numbers of its versions are the same again, and mean something else."
    import shutil

    lake = lake_with(tmp_path / "lake", prices=100)
    shutil.copytree(tmp_path / "lake", tmp_path / "copy")
    lake.overwrite("prices", lake.read("prices").slice(10))
    publish(address, lake)
    for more in (1, 2):
        shutil.rmtree(tmp_path / "lake")
        shutil.copytree(tmp_path / "copy", tmp_path / "lake")
        for _ in range(more):
            lake.overwrite("prices", lake.read("prices").slice(3))
        done = publish(address, lake)
        assert (done.mode, done.why, done.rows["prices"]) == ("full", "the lake went back", 100 - 3 * more)


@pytest.mark.parametrize("what", ["another lake", "made anew", "days", "much", "asked"])
def test_where_it_is_not_certain_everything_is_compared(address, what, tmp_path):
    import shutil

    lake = lake_with(tmp_path / "lake", prices=2000)
    publish(address, lake)
    how = {}
    if what == "another lake":
        lake = lake_with(tmp_path / "other", prices=10)
    elif what == "made anew":
        shutil.rmtree(tmp_path / "lake")
        lake = lake_with(tmp_path / "lake", prices=10)
    elif what == "days":
        how = {"days": 3}
    elif what == "much":
        lake.overwrite("prices", lake.read("prices").slice(900))
    else:
        how = {"full": True}
    done = publish(address, lake, **how)
    assert done.mode == "full" and done.why
    assert rows_of(address)["prices"] == sorted(
        (r["chain_id"], r["store_id"], r["item_code"], START, None, r["price_ils"], None)
        for r in lake.read("prices").to_pylist()
    ) or rows_of(address)["prices"] == sorted(
        (
            (r["chain_id"], r["store_id"], r["item_code"], START, None, r["price_ils"], None)
            for r in lake.read("prices").to_pylist()
        ),
        key=repr,
    )


# --- all or nothing ----------------------------------------------------------------------------------------------------------------


def counts(address) -> dict[str, int]:
    return {n: len(r) for n, r in rows_of(address).items()}


def test_readers_see_the_old_state_until_all_is_there(address, tmp_path):
    lake = lake_with(tmp_path / "lake", prices=50)
    publish(address, lake)
    old, seen, waits = rows_of(address), [], []
    lake.overwrite("prices", make_table("prices", lake_with(tmp_path / "other", prices=900).read("prices").to_pylist()))

    def look(done: int, total: int) -> None:
        began = time.perf_counter()
        seen.append(rows_of(address))
        waits.append(time.perf_counter() - began)

    publish(address, lake, progress=look)
    assert len(seen) >= 3 and all(s == old for s in seen[:-1]) and max(waits) < 5
    assert counts(address)["prices"] == 900


KILLED = """
import os, signal, sys
from grocery.serve import publish as pb

batches, real = [0], pb._to_csv if "://" in sys.argv[1] else pb._to_rows
def dying(table):
    batches[0] += table.num_rows
    if batches[0] > 3000:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(table)
pb._to_csv = pb._to_rows = dying
pb.BATCH = 1000
pb.publish(sys.argv[1], sys.argv[2])
"""


def test_killed_in_the_middle_of_copying_the_old_state_stays(address, tmp_path):
    lake = lake_with(
        tmp_path / "lake",
        prices=50,
        items=[{"chain_id": "71", "item_code": str(n), "item_name": "חלב"} for n in range(40)],
    )
    publish(address, lake)
    old = rows_of(address)
    lake_with(
        tmp_path / "lake",
        prices=9000,
        items=[{"chain_id": "71", "item_code": str(n), "item_name": "לחם"} for n in range(40)],
    )
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(address), str(tmp_path / "lake")], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert rows_of(address) == old
    again = publish(address, lake)
    assert again.rows["prices"] == 9000 and {r[-1] for r in rows_of(address)["search_names"]} == {"לחמ"}


def test_killed_at_any_moment_it_is_old_or_new(address, tmp_path):
    lake = lake_with(tmp_path / "lake", prices=2000)
    publish(address, lake)
    old, (chance) = rows_of(address), random.Random(4)
    lake_with(tmp_path / "lake", prices=20000)
    ends = []
    for _ in range(3):
        code = "import sys; from grocery.serve.publish import publish; print('go', flush=True); publish(*sys.argv[1:])"
        worker = subprocess.Popen(
            [sys.executable, "-c", code, str(address), str(tmp_path / "lake")], stdout=subprocess.PIPE, text=True
        )
        worker.stdout.readline()
        time.sleep(chance.uniform(0.05, 1.2))
        worker.kill()
        worker.wait()
        worker.stdout.close()
        ends.append(rows_of(address))
        assert ends[-1] == old or len(ends[-1]["prices"]) == 20000
    assert publish(address, lake).rows["prices"] == 20000


def test_a_publish_that_fails_late_leaves_the_old_state(address, tmp_path, monkeypatch):
    lake = lake_with(tmp_path / "lake")
    publish(address, lake)
    old = rows_of(address)
    lake_with(tmp_path / "lake", prices=80)

    def fails(*_):
        raise OSError("no space left")

    monkeypatch.setattr(pb, "_finish", fails)
    with pytest.raises(OSError):
        publish(address, lake)
    assert rows_of(address) == old


def test_of_two_at_once_one_waits(address, tmp_path):
    lake = lake_with(tmp_path / "lake", prices=3000)
    inside, let_go, done = threading.Event(), threading.Event(), {}

    def slowly(part: int, total: int) -> None:
        inside.set()
        let_go.wait(20)

    first = threading.Thread(target=lambda: done.update(first=publish(address, lake, progress=slowly)))
    first.start()
    assert inside.wait(20)
    with pytest.raises(DatabaseError, match="[Ww]ait"):
        publish(address, lake, wait_s=0.3)
    second = threading.Thread(target=lambda: done.update(second=publish(address, lake, wait_s=30)))
    second.start()
    time.sleep(0.5)
    assert "second" not in done
    let_go.set()
    first.join(30)
    second.join(30)
    assert (done["first"].mode, done["second"].mode) == ("full", "unchanged")


def test_what_the_service_owns_is_never_touched(address, tmp_path):
    lake = lake_with(tmp_path / "lake")
    publish(address, lake)
    engine = db.open_database(address)
    with orm.Session(engine) as session, session.begin():
        lines = [db.BasketLine(position=0, product_id="p1"), db.BasketLine(position=1, words="חלב")]
        session.add(
            db.User(
                email="a@example.org",
                baskets=[db.Basket(name="שבת", lines=lines)],
                keys=[db.ApiKey(name="k", key_start="a", key_hash="b")],
            )
        )
        session.add(db.AuditRecord(actor="user:1", action="login"))
    engine.dispose()
    owned = [m for m in db.OWNED if m is not db.Publication]
    before = rows_of(address, owned)
    lake_with(tmp_path / "lake", prices=5)
    for full in (False, True):
        publish(address, lake, full=full)
    assert rows_of(address, owned) == before and sum(map(len, before.values())) == 6


# --- what feeds hold ---------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "'; DROP TABLE prices; --",
    'x"; DELETE FROM users; --',
    "nul\0in the middle",
    "\0",
    "",
    "null",
    "NULL",
    "\\N",
    "\\.",
    "a,b\r\nc\td",
    '"',
    "ח" * 100_000,
    "\u202eחלב\u200f",
    "💥" * 900,
    "{}",
    "%s %(x)s :x $1 ?",
    "\ufffe\uffff",
    "e\u0301" * 400,
]


def test_hostile_names_are_published_alike_in_both(new_postgres, tmp_path):
    items = [
        {"chain_id": "71", "item_code": f"{n}", "item_name": name, "manufacturer": name}
        for n, name in enumerate(HOSTILE)
    ]
    stores = [
        {"chain_id": "71", "store_id": f"{n}", "store_name": name, "city": name, "latitude": f}
        for n, (name, f) in enumerate(zip(HOSTILE, [float("nan"), float("inf"), -1e308] * 6, strict=True))
    ]
    promotions = [
        {
            "chain_id": "71",
            "store_id": "1",
            "promotion_id": f"{n}",
            "description": name,
            "remarks": name,
            "club_id": name,
        }
        for n, name in enumerate(HOSTILE)
    ]
    products = [
        {"product_id": f"p{n}", "name_hebrew": name, "category": name, "gtin": name} for n, name in enumerate(HOSTILE)
    ]
    lake = lake_with(tmp_path / "lake", items=items, stores=stores, promotions=promotions, products=products)
    both = []
    for address in (tmp_path / "a.db", new_postgres):
        publish(address, lake)
        both.append(rows_of(address))
        assert publish(address, lake, full=True).changed == dict.fromkeys(both[0], 0)
    assert both[0] == both[1]
    names = {r[1]: r[6] for r in both[0]["items"]}
    assert names["0"] == HOSTILE[0] and names["2"] == "nul�in the middle" and names["4"] == "" and names["6"] == "NULL"
    assert names["9"] == "a,b\r\nc\td" and len(names["11"]) == 1000 and len(both[0]["items"]) == len(HOSTILE)


def test_rows_without_a_usable_code_are_left_out_and_counted(address, tmp_path):
    good = {"chain_id": "71", "store_id": "001", "item_code": "1", "price_ils": Decimal("1"), "valid_from": START}
    bad = [
        good | b
        for b in (
            {"item_code": None},
            {"item_code": ""},
            {"item_code": "9" * 5000},
            {"chain_id": None},
            {"price_ils": None},
            {"valid_from": None},
            {"valid_from": datetime(1, 1, 1, tzinfo=UTC)},
        )
    ]
    odd = [good | {"item_code": "2", "valid_to": datetime(9999, 12, 31, tzinfo=UTC)}]
    lake = lake_with(tmp_path / "lake", prices=0, items=[{"chain_id": "71", "item_code": "9" * 65}])
    lake.overwrite("prices", make_table("prices", [good, *bad, *odd]))
    done = publish(address, lake)
    assert done.rows["prices"] == 2 and done.left_out == {"prices": len(bad), "items": 1}


def test_bytes_that_are_no_text_are_replaced(address, tmp_path):
    lake = lake_with(tmp_path / "lake", items=[{"chain_id": "71", "item_code": "1", "item_name": "חלב"}])
    (file,) = [p for p in (tmp_path / "lake/items").rglob("*.parquet")]
    table = pq.read_table(file)
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"a\xed\xa0\x80")]
    )
    lake.overwrite("items", make_table("items", [{"chain_id": "71", "item_code": "1", "item_name": "xxxx"}]))
    (new,) = [p for p in (tmp_path / "lake/items").rglob("*.parquet") if p != file]
    pq.write_table(table.set_column(table.column_names.index("item_name"), "item_name", broken), new)
    publish(address, lake)
    assert [r[6] for r in rows_of(address)["items"]] == ["a\ufffd\ufffd\ufffd"]


# --- wrong calls -------------------------------------------------------------------------------------------------------------------


def test_wrong_calls_are_one_clear_line(tmp_path):
    lake = lake_with(tmp_path / "lake")
    cases = {
        "no lake": (LakeError, "grocery ingest", tmp_path / "x.db", str(tmp_path / "nowhere")),
        "an empty lake": (LakeError, "holds no prices", tmp_path / "x.db", lake_with(tmp_path / "empty", prices=0)),
        "a moment": (LakeError, "present", tmp_path / "x.db", open_lake(tmp_path / "lake", as_of="2026-03-01")),
        "no server": (DatabaseError, "Is it running", "postgresql://a:hush@127.0.0.1:1/x", lake),
        "another kind": (DatabaseError, "unknown kind", "mysql://a:hush@h/x", lake),
    }
    for what, (kind, words, address, source) in cases.items():
        with pytest.raises(kind, match=words) as caught:
            publish(address, source)
        assert "hush" not in str(caught.value), what
    assert not list((tmp_path / "nowhere").glob("*"))
    with pytest.raises(DatabaseError, match="allowed"):
        publish(tmp_path / "x.db", lake, days=-1)
    publish(tmp_path / "closed.db", lake)
    (tmp_path / "closed.db").chmod(0o444)
    with pytest.raises(DatabaseError, match="read-only"):
        publish(tmp_path / "closed.db", lake, full=True)
    db.migrate(tmp_path / "old.db", "0001_market")
    with pytest.raises(DatabaseError, match="grocery migrate"):
        publish(tmp_path / "old.db", lake)


def test_of_two_rows_with_one_key_one_is_taken(address, tmp_path):
    lake = lake_with(tmp_path / "lake", prices=3)
    first = lake.read("prices").slice(0, 1).to_pylist()[0]
    lake.append("prices", make_table("prices", [first | {"price_ils": Decimal("9.90")}]))
    for _ in range(2):
        assert publish(address, lake, full=True).rows["prices"] == 3
    assert [r[5] for r in rows_of(address)["prices"]] == [Decimal("6.90")] * 3


# --- backup ------------------------------------------------------------------------------------------------------------------------

EVERYTHING = db.PUBLISHED + db.OWNED


def fill(address, path: Path):
    "A database with something in every table."
    import numpy as np

    world = World(path, 7)
    for _ in range(6):
        world.step()
    world.link()
    world.promote()
    world.write(*TABLES)
    publish(address, world.lake)
    engine = db.open_database(address)
    with orm.Session(engine) as session, session.begin():
        lines = [
            db.BasketLine(position=0, product_id="p1"),
            db.BasketLine(position=1, words='חלב, "3%"\r\nטרי', quantity=0.1),
        ]
        key = db.ApiKey(name="", key_start="a", key_hash="b", scopes=["read", "כתיבה"], expires_at=START)
        session.add(
            db.User(
                email="a@example.org", display_name="NULL", baskets=[db.Basket(name="שבת", lines=lines)], keys=[key]
            )
        )
        session.add(db.User(email="b@example.org", display_name=""))
        session.add(db.AuditRecord(actor="user:1", action="login", detail={"a": [1, None, "\\N"]}))
        ask.write_embeddings(session.connection(), "m", ["p1", "p2"], np.random.default_rng(1).normal(size=(2, 256)))
    engine.dispose()
    return world


def same(first, second) -> bool:
    both = [
        json.dumps(rows_of(a, EVERYTHING), default=repr, sort_keys=True) for a in (first, second)
    ]  # JSON has no order
    return both[0] == both[1]


@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_backup_brings_everything_back_in_either_database(source, target, tmp_path, request):
    import psycopg

    def make(kind: str, name: str) -> str:
        if kind == "sqlite":
            return str(tmp_path / f"{name}.db")
        server = request.getfixturevalue("postgres")
        own = f"b_{name}_{source}_{target}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {own}")
        return server.replace("/postgres?", f"/{own}?")

    one, two = make(source, "one"), make(target, "two")
    world = fill(one, tmp_path / "lake")
    made = backup(tmp_path / "all.zip", one)
    assert made.rows == sum(map(len, rows_of(one, EVERYTHING).values())) and all(
        t["rows"] for t in made.tables.values()
    )
    assert (tmp_path / "all.zip").stat().st_mode & 0o777 == 0o600
    assert restore(tmp_path / "all.zip", two).tables == made.tables
    assert same(one, two)
    engine = db.open_database(two)
    with orm.Session(engine) as session, session.begin():
        session.add(db.User(email="c@example.org"))
        found = session.scalars(ask.select_names("מוצר", engine.dialect.name)).all()
        assert len(found) == sum(
            "מוצר" in fold(v["item_name"] or "") or fold("מוצר") in fold(v["item_name"] or "")
            for v in world.items.values()
        )
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.max(db.User.id))) == 3
    engine.dispose()
    world.step()
    assert publish(two, world.lake).mode != "full"  # the record of publishing came along
    backup(tmp_path / "back.zip", two)
    assert set(check_archive(tmp_path / "back.zip").tables) == set(made.tables)


def test_nothing_is_overwritten_silently(address, tmp_path):
    fill(address, tmp_path / "lake")
    backup(tmp_path / "all.zip", address)
    before = (tmp_path / "all.zip").read_bytes()
    with pytest.raises(SourceError, match="--overwrite"):
        backup(tmp_path / "all.zip", address)
    with pytest.raises(DatabaseError, match="holds rows.*--overwrite"):
        restore(tmp_path / "all.zip", address)
    assert (tmp_path / "all.zip").read_bytes() == before
    rows = rows_of(address, EVERYTHING)
    engine = db.open_database(address)
    with db.begin(engine) as connection:
        connection.execute(sa.delete(db.User))
    engine.dispose()
    restore(tmp_path / "all.zip", address, overwrite=True)
    assert repr(rows_of(address, EVERYTHING)) == repr(rows)
    backup(tmp_path / "all.zip", address, overwrite=True)
    assert [p.name for p in tmp_path.iterdir() if ".part" in p.name] == []


def rewritten(path: Path, new: Path, change) -> Path:
    "Another archive, in which something was changed."
    with zipfile.ZipFile(path) as archive:
        files = {n: archive.read(n) for n in archive.namelist()}
    change(files)
    with zipfile.ZipFile(new, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return new


def manifest(files: dict, **changes) -> None:
    files["manifest.json"] = json.dumps(json.loads(files["manifest.json"]) | changes).encode()


def tables(files: dict, change) -> None:
    said = json.loads(files["manifest.json"])["tables"]
    change(said)
    manifest(files, tables=said)


def forged(files: dict, name: str, words: bytes, other: bytes) -> None:
    "Change a table so that its hash says nothing."
    files[f"tables/{name}.csv"], times = re.subn(words, other, files[f"tables/{name}.csv"])
    assert times
    tables(files, lambda said: said[name].update(sha256=sha256(files[f"tables/{name}.csv"]).hexdigest()))


DAMAGE = {
    "a price changed": lambda f: f.update(
        {"tables/users.csv": f["tables/users.csv"].replace(b"a@example", b"x@example")}
    ),
    "a table cut": lambda f: f.update({"tables/prices.csv": f["tables/prices.csv"][:-20]}),
    "a table missing": lambda f: f.pop("tables/users.csv"),
    "no manifest": lambda f: f.pop("manifest.json"),
    "a manifest that is no JSON": lambda f: f.update({"manifest.json": b"{"}),
    "a manifest that is a list": lambda f: f.update({"manifest.json": b"[]"}),
    "a manifest of nothing": lambda f: f.update({"manifest.json": b"{}"}),
    "another format": lambda f: manifest(f, format="other-1"),
    "another schema": lambda f: manifest(f, revision="0099_future"),
    "tables that are no dict": lambda f: manifest(f, tables=[1]),
    "a path that leads out": lambda f: f.update({"../../evil.txt": b"x"}),
    "a table that leads out": lambda f: (
        f.update({"tables/../../evil.csv": b"x"}),
        tables(f, lambda t: t.update({"../../evil": dict(t["users"])})),
    ),
    "an absolute path": lambda f: f.update({"/evil.txt": b"x"}),
    "columns that are SQL": lambda f: tables(
        f, lambda t: t["users"].update(columns=["id) FROM users; DROP TABLE users; --"])
    ),
    "a column left out": lambda f: tables(f, lambda t: t["users"].update(columns=t["users"]["columns"][1:])),
    "a count that is wrong": lambda f: tables(f, lambda t: t["users"].update(rows=77)),
    "a day that is none, its hash made right": lambda f: forged(f, "users", rb"(20\d\d)-\d\d-", rb"\1-99-"),
    "a table left out of both": lambda f: (f.pop("tables/users.csv"), tables(f, lambda t: t.pop("users"))),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    fill(str(folder / "one.db"), folder / "lake")
    backup(folder / "all.zip", str(folder / "one.db"))
    return folder / "all.zip"


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_or_foreign_archive_changes_nothing(what, archive, address, tmp_path):
    broken = rewritten(
        archive,
        tmp_path / "in" / "broken.zip" if (tmp_path / "in").mkdir() else tmp_path / "in" / "broken.zip",
        DAMAGE[what],
    )
    lake = lake_with(tmp_path / "lake")
    publish(address, lake)
    old = rows_of(address)
    with pytest.raises((SourceError, DatabaseError), match="backup|damaged|cannot be restored"):
        restore(broken, address, overwrite=True)
    assert rows_of(address) == old
    assert (
        not list(tmp_path.rglob("evil*"))
        and not (tmp_path.parent / "evil.txt").exists()
        and not Path("/evil.txt").exists()
    )


def test_an_archive_with_any_flipped_byte_is_refused_or_whole(archive, tmp_path):
    whole, chance = archive.read_bytes(), random.Random(2)
    refused = 0
    for _ in range(60):
        broken = bytearray(whole)
        broken[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        (tmp_path / "x.zip").write_bytes(broken)
        try:
            found = check_archive(tmp_path / "x.zip")
            assert found.tables == read_archive(archive).tables
        except SourceError:
            refused += 1
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.zip").write_bytes(whole[:size])
        with pytest.raises(SourceError):
            check_archive(tmp_path / "x.zip")
    assert refused > 30


def test_a_backup_while_somebody_publishes_is_one_moment(address, tmp_path):
    lake = lake_with(tmp_path / "lake", prices=500)
    publish(address, lake)
    lake_with(tmp_path / "lake", prices=900)
    made = []

    def look(done: int, total: int) -> None:
        if done:
            made.append(backup(tmp_path / f"{len(made)}.zip", address))

    publish(address, lake, progress=look)
    assert {m.tables["prices"]["rows"] for m in made[:-1]} == {500}
    assert backup(tmp_path / "last.zip", address).tables["prices"]["rows"] == 900


def test_an_older_archive_is_brought_to_the_newest_schema(address, tmp_path):
    db.migrate(tmp_path / "old.db", "0002_search")
    engine = db.open_database(tmp_path / "old.db")
    with db.begin(engine) as connection:
        connection.execute(sa.insert(db.Product.__table__), [{"id": "p1", "name_hebrew": "חלב"}])
    engine.dispose()
    made = backup(tmp_path / "old.zip", tmp_path / "old.db")
    assert made.revision == "0002_search" and "users" not in made.tables
    restore(tmp_path / "old.zip", address)
    assert counts(address)["products"] == 1 and rows_of(address, [db.User]) == {"users": []}


def test_wrong_calls_of_backup_are_one_clear_line(tmp_path):
    for address in (tmp_path / "nothing.db", "postgresql://a:hush@127.0.0.1:1/x"):
        with pytest.raises(DatabaseError) as caught:
            backup(tmp_path / "x.zip", address)
        assert "hush" not in str(caught.value)
    assert not (tmp_path / "nothing.db").exists() and not (tmp_path / "x.zip").exists()
    db.migrate(tmp_path / "one.db")
    with pytest.raises(SourceError, match="cannot be written"):
        backup(tmp_path / "no" / "folder" / "x.zip", tmp_path / "one.db")
    with pytest.raises(SourceError, match="cannot be read"):
        restore(tmp_path / "missing.zip", tmp_path / "two.db")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(SourceError, match="no usable backup"):
        restore(tmp_path / "text.zip", tmp_path / "two.db")
    import sqlite3

    sqlite3.connect(tmp_path / "foreign.db").execute("CREATE TABLE users (x)").connection.close()
    with pytest.raises(DatabaseError, match="none of ours"):
        backup(tmp_path / "x.zip", tmp_path / "foreign.db")
    backup(tmp_path / "good.zip", tmp_path / "one.db")
    with pytest.raises(GroceryError):
        restore(tmp_path / "good.zip", tmp_path / "foreign.db")


# --- as one types it ---------------------------------------------------------------------------------------------------------------


def typed(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from grocery.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def test_the_commands(tmp_path):
    lake_with(tmp_path / "lake")
    place = {"GROCERY_DATABASE": str(tmp_path / "data" / "x.db"), "GROCERY_LAKE": str(tmp_path / "lake")}
    done = typed("publish", "--json", **place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["prices"] == 50 and json.loads(done.stdout)["mode"] == "full"
    done = typed("publish", **place)
    assert done.stdout.startswith("unchanged: lake version") and "prices: 50 rows" in done.stdout
    assert typed("backup", tmp_path / "x.zip", **place).stdout.endswith("schema 0003_service\n")
    again = typed("backup", tmp_path / "x.zip", **place)
    assert again.returncode == 2 and "--overwrite" in again.stderr and len(again.stderr.splitlines()) == 1
    other = tmp_path / "y.db"
    assert typed("restore", tmp_path / "x.zip", "--database", other, **place).returncode == 0
    assert same(str(other), place["GROCERY_DATABASE"])
    assert typed("migrate", "down", "--database", other).stdout == "0003_service -> 0002_search\n"
    assert typed("migrate", "--database", other).stdout == "0002_search -> 0003_service\n"
    assert typed("migrate", "sideways", "--database", other).returncode == 2
    assert bk.FORMAT == "grocery-backup-1"
