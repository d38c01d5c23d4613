"""Compaction and vacuum change no answer, keep what was promised, and disturb nobody who reads."""

import json
import os
import random
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ingest import everything, run_cli, write_market

from grocery.errors import LakeError
from grocery.store.ingest import ingest
from grocery.store.lake import _dataset, open_lake
from grocery.store.upkeep import TILE, _ranges, compact_lake, measure_lake, order_tiles, vacuum_lake
from grocery.tables import TABLES, make_table

MOMENTS = (None, "2026-03-01", "2026-03-03T09:00", "2026-03-05")


def age(lake: Path, days: float) -> None:
    "Make everything in a lake so many days older: its files, and what its logs say of time."
    back = int(days * 86_400_000)
    for path in lake.rglob("*"):
        if path.suffix == ".json" and path.parent.name == "_delta_log":
            about = path.stat()
            text = re.sub(
                r'("(?:timestamp|deletionTimestamp|modificationTime|createdTime)":)(\d{13})',
                lambda m: f"{m[1]}{int(m[2]) - back}",
                path.read_text(),
            )
            path.write_text(text)
            os.utime(path, (about.st_atime, about.st_mtime))
        if path.is_file():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - back / 1000))


def answers(lake: Path) -> list:
    "What the lake says now and as of several moments, and each table row by row."
    query = "SELECT chain_id, store_id, item_code, price_ils, valid_from, valid_to, file_id FROM prices ORDER BY ALL"
    return [open_lake(lake, as_of=moment).sql(query).to_pylist() for moment in MOMENTS] + [everything(lake)]


def data(lake: Path):
    "The files of the prices that count now."
    return _dataset(open_lake(lake)._open("prices")[1], "prices")


@pytest.fixture(scope="module")
def days(tmp_path_factory) -> Path:
    "A lake that was ingested in many small batches, late files among them."
    folder = tmp_path_factory.mktemp("days")
    paths = sorted(write_market(folder / "feeds", days=5, stores=2), key=lambda path: path.name[-13:])
    late = random.Random(2).sample(paths[2:8], 2)
    for day in range(0, len(paths), 4):
        ingest([p for p in paths[day : day + 4] if p not in late], open_lake(folder / "lake"), workers=1)
        if day == 4:
            ingest(late, open_lake(folder / "lake"), workers=1)
    open_lake(folder / "lake").overwrite("products", make_table("products", [{"product_id": "1"}]))
    return folder / "lake"


@pytest.fixture
def lake(days, tmp_path) -> Path:
    "A copy of it."
    subprocess.run(["cp", "-a", str(days), str(tmp_path / "lake")], check=True)
    return tmp_path / "lake"


def test_compaction_changes_no_answer_and_leaves_few_files(lake):
    before, versions = answers(lake), open_lake(lake).versions()["files"]
    then = [open_lake(lake, version=v).read("prices").num_rows for v in range(versions + 1)]
    report = compact_lake(open_lake(lake))
    assert answers(lake) == before
    assert [open_lake(lake, version=v).read("prices").num_rows for v in range(versions + 1)] == then
    assert (
        report["files"][1] < report["files"][0]
        and report["tables"]["prices"]["files"][1] == 2 < report["tables"]["prices"]["files"][0]
    )
    assert report["files"][1] == measure_lake(open_lake(lake))["files"].sum()
    again = compact_lake(open_lake(lake))
    ends = [f.to_table(columns=["valid_to"])["valid_to"] for f in data(lake).get_fragments()]
    assert sorted(e.null_count / len(e) for e in ends) == [0, 1]  # the ended and the lasting lie apart
    changed = {name for name, t in again["tables"].items() if t["files"][0] != t["files"][1]}
    assert changed <= {"audit", "files"} and answers(lake) == before
    rows = open_lake(lake).sql("SELECT table_name FROM audit WHERE action = 'compact'")["table_name"].to_pylist()
    assert {"prices", "files"} <= set(rows)


def test_a_compacted_lake_goes_on(lake, tmp_path):
    compact_lake(open_lake(lake))
    more = write_market(tmp_path / "more", days=7, stores=2)  # the same and two more days, by other numbers
    ingest(more, open_lake(lake), workers=1)
    compact_lake(open_lake(lake))
    ingest(more, open_lake(tmp_path / "fresh"), workers=1)
    query = "SELECT store_id, item_code, price_ils FROM prices_now ORDER BY ALL"
    late = "2026-03-07"
    assert open_lake(lake, as_of=late).sql(query).equals(open_lake(tmp_path / "fresh", as_of=late).sql(query))


def test_vacuum_keeps_what_the_last_days_need(lake):
    before = answers(lake)
    middle = open_lake(lake).versions()["files"]
    age(lake, 40)
    compact_lake(open_lake(lake))  # today
    assert answers(lake) == before
    kept = open_lake(lake, version=middle).read("prices")
    early = open_lake(lake, version=1).read("prices")
    dry = vacuum_lake(open_lake(lake), keep_days=30, dry_run=True)
    assert dry["removed_files"] > 0 and dry["files_kept"][0] == dry["files_kept"][1]
    assert open_lake(lake, version=1).read("prices").equals(early)  # dry
    done = vacuum_lake(open_lake(lake), keep_days=30)
    assert (done["removed_files"], done["removed_bytes"]) == (dry["removed_files"], dry["removed_bytes"])
    assert done["files_kept"][0] - done["files_kept"][1] >= done["removed_files"] - 10
    assert answers(lake) == before
    assert open_lake(lake, version=middle).read("prices").equals(kept)  # it counted until today
    with pytest.raises(LakeError, match="vacuum"):
        open_lake(lake, version=1).read("prices")
    with pytest.raises(LakeError, match="vacuum"):
        open_lake(lake, version=1).sql("SELECT count(DISTINCT item_code) FROM prices")
    assert vacuum_lake(open_lake(lake), keep_days=30)["removed_files"] == 0


def test_vacuum_takes_back_an_unfinished_ingest_before_it_removes_anything(lake):
    "What counts may have been replaced by a writer that died long ago; it must not go for that."
    before = answers(lake)
    writer = open_lake(lake).begin()
    writer.overwrite("prices", TABLES["prices"].schema.empty_table())
    age(lake, 40)
    vacuum_lake(open_lake(lake), keep_days=1)
    assert answers(lake) == before
    with pytest.raises(LakeError, match="another writer"):
        writer.publish(make_table("files", [{"file_id": "a"}]))


def test_what_a_dead_writer_left_lying_goes(lake):
    orphan = next(lake.glob("prices/chain_id=*")) / "part-00000-orphan.zstd.parquet"
    orphan.write_bytes(b"x" * 1000)
    age(lake, 3)
    assert vacuum_lake(open_lake(lake), keep_days=2)["removed_files"] >= 1 and not orphan.exists()


READ = (
    "import sys, time; from grocery.store.lake import open_lake; seen = []\n"
    "while time.time() < float(sys.argv[2]):\n"
    "    for moment in (None, '2026-03-03T09:00'):\n"
    "        lake = open_lake(sys.argv[1], as_of=moment)\n"
    "        seen.append(str(lake.sql('SELECT count(*), sum(price_ils), min(valid_from) FROM prices').to_pylist()))\n"
    "print(len(seen), len(set(seen)))\n"
)


def test_readers_meanwhile_are_not_disturbed(lake):
    age(lake, 40)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READ, str(lake), str(time.time() + 6)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    open_before = data(lake)  # opened, and read only afterwards
    rows = open_before.to_table().num_rows
    while any(r.poll() is None for r in readers):
        compact_lake(open_lake(lake))
        vacuum_lake(open_lake(lake), keep_days=1)
        ingest(
            write_market(lake.parent / "more", days=1, stores=1)[0], open_lake(lake), workers=1
        )  # held already: nothing
    for reader in readers:
        said, problems = reader.communicate()
        assert reader.returncode == 0, problems
        asked, answers_seen = map(int, said.split())
        assert asked >= 4 and answers_seen == 2
    assert open_before.to_table().num_rows == rows


def test_commands(lake):
    age(lake, 40)
    done = run_cli("compact", "--lake", lake, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["tables"]["prices"]["files"][1] == 2, done.stderr
    dry = run_cli("vacuum", "--keep", 30, "--lake", lake, "--dry-run", "--json")
    real = run_cli("vacuum", "--keep", 30, "--lake", lake)
    assert json.loads(dry.stdout)["removed_files"] > 0 and "removed" in real.stdout and real.returncode == 0
    assert run_cli("vacuum", "--lake", lake).returncode == 2  # how long is to be said
    assert run_cli("vacuum", "--keep", 0, "--lake", lake).returncode == 2
    for command in (["compact"], ["vacuum", "--keep", 30]):
        nowhere = run_cli(*command, "--lake", lake.parent / "nowhere")
        assert nowhere.returncode == 2 and len(nowhere.stderr.splitlines()) == 1 and "llowed" in nowhere.stderr
    assert not (lake.parent / "nowhere").exists()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(0, 3)), max_size=200),
    st.integers(1, 50),
    st.integers(1, 9),
)
def test_tiles_hold_every_row_once(rows, size, width):
    columns = [np.array([r[n] for r in rows], np.int64) for n in (0, 1, 2, 2)]
    order = order_tiles(*columns, rows=size, width=width)
    assert sorted(order.tolist()) == list(range(len(rows)))
    side = max(1, min(round(len(set(columns[0].tolist())) / width), len(rows) // size))
    for codes in columns[:2]:
        ranges = _ranges(codes, side)
        assert len(set(zip(codes.tolist(), ranges.tolist(), strict=True))) == len(set(codes.tolist()))  # one range each
        assert (np.diff(ranges[np.argsort(codes, kind="stable")]) >= 0).all() and (ranges < side).all()
    items = _ranges(columns[0], side)[order]
    assert (np.diff(items) >= 0).all()  # a column of tiles after the other
    assert (np.diff(columns[1][order])[np.diff(items) == 0] >= 0).all()  # each in the order of stores


def test_what_vacuum_has_removed_is_said(lake):
    compact_lake(open_lake(lake))
    vacuum_lake(open_lake(lake), keep_days=0)
    with pytest.raises(LakeError, match="What `grocery vacuum` has removed cannot be asked any more"):
        open_lake(lake, version=1).sql("SELECT count(*) AS n, max(price_ils) FROM prices")


def test_large_files_are_written_in_small_row_groups(tmp_path):
    "A file that is alone already is written again if a single price would cost the reading of too much of it."
    rows, lake = 3 * TILE, open_lake(tmp_path / "lake")
    row = dict.fromkeys(TABLES["prices"].schema.names) | {"chain_id": "1", "price_ils": 1, "file_id": "x"}
    row |= {"valid_from": datetime(2026, 1, 1, tzinfo=UTC)}
    codes = ({"store_id": str(n % 8), "item_code": f"{n // 8:06}"} for n in range(rows))
    lake.append("prices", make_table("prices", [row | code for code in codes]))
    assert [g.num_rows for f in data(lake.path).get_fragments() for g in f.row_groups] == [rows]
    compact_lake(lake)
    sizes = [g.num_rows for f in data(lake.path).get_fragments() for g in f.row_groups]
    assert max(sizes) <= TILE and sum(sizes) == rows
    version = lake.versions()["prices"]
    compact_lake(lake)
    assert lake.versions()["prices"] == version
