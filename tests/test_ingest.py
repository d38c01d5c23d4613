"""Ingesting twice, in any order, or after a kill gives the same lake; bad sources are one clear line and leave nothing."""

import gzip
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import bad_readers
import pandas as pd
import pytest

from grocery.errors import LakeError, SourceError
from grocery.store.ingest import find_files, ingest
from grocery.store.lake import FACTS, _delta, _marks, _number, open_lake
from grocery.tables import TABLES

PROMO = """<Root><ChainId>7290000000001</ChainId><StoreId>{}</StoreId><Promotions><Promotion><PromotionId>77</PromotionId>
<PromotionDescription>מבצע</PromotionDescription><DiscountRate>0.8</DiscountRate><PromotionItems>{}</PromotionItems></Promotion></Promotions></Root>"""
PROMOTION_ITEM = "<Item><ItemCode>{}</ItemCode><ItemType>1</ItemType></Item>"
ITEM = "<Item><ItemCode>{}</ItemCode><ItemName>מוצר {}</ItemName><ItemPrice>{}</ItemPrice></Item>"


def write_market(folder: Path, days: int = 5, stores: int = 2, items: int = 12, seed: int = 1) -> list[Path]:
    "Full files every morning and updates at noon, with items that come, change and go."
    chance, paths = random.Random(seed), []
    for store in range(1, stores + 1):
        price = {100 + n: 5.0 + n for n in range(items)}
        for day in range(1, days + 1):
            for code in chance.sample(sorted(price), 3):
                price[code] += chance.choice([0.5, -0.5, 1])
            gone = set(chance.sample(sorted(price), 2))
            listed = {c: p for c, p in price.items() if c not in gone}
            changed = dict(chance.sample(sorted(price.items()), 4))
            for kind, clock, rows in (("PriceFull", "0600", listed), ("Price", "1200", changed)):
                text = "".join(ITEM.format(c, c, f"{p:.2f}") for c, p in rows.items())
                xml = f"<Root><ChainId>7290000000001</ChainId><StoreId>{store}</StoreId><Items>{text}</Items></Root>"
                path = folder / f"{kind}7290000000001-{store:03}-202603{day:02}{clock}.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(xml.encode(), mtime=0))
                paths.append(path)
    return paths


def history(lake_path: Path) -> pd.DataFrame:
    columns = "chain_id, store_id, item_code, price_ils, valid_from, valid_to, file_id"
    return open_lake(lake_path).sql(f"SELECT {columns} FROM prices ORDER BY ALL").to_pandas()


def last_versions(lake: Path) -> dict[str, int]:
    "The last version of each table that `files` speaks for, -1 for those never written."
    return {n: _number(_delta(str(lake), n)) for n in FACTS}


def run_cli(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    code = "from grocery.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | environment)


def test_any_order_any_batching_and_twice_give_one_lake(tmp_path):
    paths = write_market(tmp_path / "feeds")
    ingest(paths, open_lake(tmp_path / "once"), workers=1)
    expected = history(tmp_path / "once")
    shuffled = random.Random(3).sample(paths, len(paths))
    for path in shuffled:
        ingest(path, open_lake(tmp_path / "one_by_one"), workers=1)
    again = ingest(shuffled, open_lake(tmp_path / "one_by_one"), workers=1)
    assert again.skipped == len(paths) and not again.ledgers
    ingest(paths, open_lake(tmp_path / "batches"), workers=1, batch=3)
    for other in ("one_by_one", "batches"):
        pd.testing.assert_frame_equal(history(tmp_path / other), expected)


def test_files_of_several_stores_fold_in_any_order(tmp_path):
    "A file that is late for one of its stores and early for another."
    paths = []
    for day, stores in ((1, "12"), (2, "123"), (3, "13"), (4, "2"), (5, "124")):
        rows = "".join(
            ITEM.format(n, n, f"{day}.{n}0").replace("<Item>", f"<Item><StoreId>{s}</StoreId>")
            for s in stores
            for n in (7, 8)
        )
        paths.append(tmp_path / f"PriceFull7290000000001-000-202603{day:02}0600.xml")
        paths[-1].write_text(f"<Root><ChainId>7290000000001</ChainId><Items>{rows}</Items></Root>")
    ingest(paths, open_lake(tmp_path / "once"), workers=1)
    expected = history(tmp_path / "once")
    assert len(expected) == 2 * sum(map(len, ("12", "123", "13", "2", "124")))
    for seed in range(3):
        for path in random.Random(seed).sample(paths, len(paths)):
            ingest(path, open_lake(tmp_path / str(seed)), workers=1)
        pd.testing.assert_frame_equal(history(tmp_path / str(seed)), expected)


def test_as_of_answers_what_each_full_file_said(tmp_path):
    paths = write_market(tmp_path / "feeds", stores=1)
    ingest(paths, open_lake(tmp_path / "lake"), workers=1)
    for day in range(1, 6):
        xml = gzip.decompress(
            (tmp_path / "feeds" / f"PriceFull7290000000001-001-202603{day:02}0600.gz").read_bytes()
        ).decode()
        said = {
            i.split("</ItemCode>")[0]: float(i.split("<ItemPrice>")[1].split("<")[0])
            for i in xml.split("<ItemCode>")[1:]
        }
        lake = open_lake(tmp_path / "lake", as_of=f"2026-03-{day:02}T06:30")
        rows = lake.sql("SELECT item_code, price_ils FROM prices_now").to_pylist()
        assert {r["item_code"]: float(r["price_ils"]) for r in rows} == said


def test_a_cut_full_file_ends_no_price(tmp_path):
    paths = write_market(tmp_path / "feeds", days=2, stores=1)
    second = tmp_path / "feeds" / "PriceFull7290000000001-001-202603020600.gz"
    second.write_bytes(second.read_bytes()[:-60])
    done = ingest([paths[0], second], open_lake(tmp_path / "lake"), workers=1)
    assert done.totals["incomplete_files"] == 1 and done.loss_share > 0.05
    ended = open_lake(tmp_path / "lake").sql(
        "SELECT item_code FROM prices GROUP BY 1 HAVING count(*) FILTER (WHERE valid_to IS NULL) = 0"
    )
    assert ended.num_rows == 0


def test_ledgers_and_tables_agree(tmp_path):
    paths = write_market(tmp_path / "feeds")
    done = ingest(tmp_path / "feeds", open_lake(tmp_path / "lake"))
    lake = open_lake(tmp_path / "lake")
    sums = lake.sql(
        "SELECT count(*) AS n, sum(rows_in) AS r, sum(accepted + rejected + duplicates) AS s FROM files"
    ).to_pylist()[0]
    assert (sums["n"], sums["r"]) == (len(paths), sums["s"]) and done.totals["rows_in"] == sums["r"]
    lineage = lake.sql("SELECT count(*) AS n FROM prices ANTI JOIN files USING (file_id)")
    assert lineage["n"][0].as_py() == 0


def test_a_killed_ingest_is_finished_by_the_next(tmp_path):
    paths = write_market(tmp_path / "feeds", days=6, stores=3)
    ingest(paths, open_lake(tmp_path / "whole"), workers=1, batch=4)
    expected = history(tmp_path / "whole")
    code = (
        "import sys; from grocery.store.ingest import ingest; from grocery.store.lake import open_lake; "
        "ingest(sys.argv[1], open_lake(sys.argv[2]), workers=1, batch=4)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "feeds"), str(tmp_path / "killed")]
    for pause in (0.3, 0.8, 1.4):
        files = tmp_path / "killed" / "files"
        process = subprocess.Popen(command)
        end = time.monotonic() + 60
        while process.poll() is None and not files.exists() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, timeout=300)
    pd.testing.assert_frame_equal(history(tmp_path / "killed"), expected)
    lake = open_lake(tmp_path / "killed")
    assert lake.sql("SELECT count(*) AS n, count(DISTINCT file_id) AS d FROM files").to_pylist() == [
        {"n": len(paths), "d": len(paths)}
    ]


def test_an_ingest_that_dies_at_any_write_is_finished_by_the_next(tmp_path, monkeypatch):
    "Die at every single commit in turn, with late files among the rest; the next run makes the same history."
    import grocery.store.lake as lake_module

    paths = write_market(tmp_path / "feeds", days=2, stores=2, items=6)
    early, late = [p for n, p in enumerate(paths) if n % 3], paths[::3]
    for group in (early, late):
        ingest(group, open_lake(tmp_path / "whole"), workers=1)
    expected, write = history(tmp_path / "whole"), lake_module._write_delta

    class Killed(BaseException):
        pass

    def die_at(limit: int):
        left = [limit]

        def dying(*args, **how):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            write(*args, **how)

        return dying

    for limit in range(12):
        target, died = tmp_path / f"dies_{limit}", 0
        for group in (early, late):
            monkeypatch.setattr(lake_module, "_write_delta", die_at(limit))
            try:
                ingest(group, open_lake(target), workers=1)
            except Killed:
                died += 1
            monkeypatch.setattr(lake_module, "_write_delta", write)
            ingest(group, open_lake(target), workers=1)
        pd.testing.assert_frame_equal(history(target), expected)
        assert died == 2 or limit >= 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(100)),
        ("page.html", b"<html><body>login</body></html>"),
        ("notes.txt", b"hello"),
    ],
)
def test_a_folder_without_any_feed_is_a_wrong_call_and_leaves_nothing(tmp_path, name, content):
    (tmp_path / "pictures").mkdir()
    for n in range(3):
        (tmp_path / "pictures" / f"{n}{name}").write_bytes(content + bytes([n]))
    with pytest.raises(SourceError, match="No feed among 3"):
        ingest(tmp_path / "pictures", open_lake(tmp_path / "lake"))
    assert not (tmp_path / "lake").exists()


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        find_files(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="no file in it"):
        find_files(tmp_path)


def test_a_read_only_lake_is_refused_before_anything_is_read(tmp_path):
    paths = write_market(tmp_path / "feeds", days=1)
    ingest(paths[:1], open_lake(tmp_path / "lake"))
    before = sorted(p for p in (tmp_path / "lake").rglob("*"))
    (tmp_path / "lake").chmod(0o555)
    try:
        with pytest.raises(LakeError, match="cannot be written"):
            ingest(paths, open_lake(tmp_path / "lake"))
    finally:
        (tmp_path / "lake").chmod(0o755)
    assert sorted(p for p in (tmp_path / "lake").rglob("*")) == before


def test_hostile_words_stay_words(tmp_path):
    nasty = "'; DROP TABLE prices; -- <script>"
    xml = f"<Root><ChainId>729' OR 1=1</ChainId><StoreId>1</StoreId><Items>{ITEM.format(1, nasty.replace('<', '&lt;'), '1.00')}</Items></Root>"
    good = xml.replace("729' OR 1=1", "7290000000001")
    for n, text in enumerate((xml, good)):
        (tmp_path / f"PriceFull-{n}.xml").write_text(text, encoding="utf-8")
    done = ingest(tmp_path, open_lake(tmp_path / "lake"), workers=1)
    assert done.totals["rejected"] == {"missing_store": 1}
    assert open_lake(tmp_path / "lake").sql("SELECT item_name FROM items").to_pylist() == [
        {"item_name": f"מוצר {nasty}"}
    ]


def test_the_command_line_answers_bad_calls_with_one_line(tmp_path):
    (tmp_path / "empty.gz").write_bytes(b"")
    (tmp_path / "jpegs").mkdir()
    (tmp_path / "jpegs" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    calls = {
        ("ingest", tmp_path / "nowhere", "--lake", tmp_path / "l1"): 2,
        ("ingest", tmp_path / "jpegs", "--lake", tmp_path / "l1"): 2,
        ("ingest", tmp_path / "empty.gz", "--lake", tmp_path / "l1"): 2,
        ("check", tmp_path / "empty.gz"): 1,
        ("sql", "SELECT 1", "--lake", tmp_path / "l1"): 2,
        ("run", "43_nothing"): 2,
        ("run", "42_baskets", "-p", "nothing=1"): 2,
        ("run", "-p", "nonsense"): 2,
    }
    for call, code in calls.items():
        done = run_cli(*call)
        assert done.returncode == code, (call, done.stderr)
        if code == 2:
            assert (
                len(done.stderr.strip().splitlines()) == 1 and "llowed" in done.stderr or "Make one" in done.stderr
            ), done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "l1").exists()


def test_check_prints_the_agreed_keys(tmp_path):
    path = write_market(tmp_path / "feeds", days=1, stores=1)[0]
    done = run_cli("check", path, "--json")
    (ledger,) = json.loads(done.stdout)
    assert set(ledger) == set(
        "file sha256 chain_id sub_chain_id store_id kind published_at layout compression encoding declared_count rows_in "
        "missing accepted rejected duplicates complete problems".split()
    )
    assert (
        ledger["rejected"] == {} and ledger["problems"] == [] and ledger["complete"] is True and ledger["missing"] == 0
    )
    assert ledger["published_at"] == "2026-03-01T04:00:00+00:00"


def test_ingest_and_sql_from_the_command_line(tmp_path):
    write_market(tmp_path / "feeds", days=2, stores=1)
    done = run_cli("ingest", tmp_path / "feeds", "--lake", tmp_path / "lake", "--json")
    summary = json.loads(done.stdout)
    assert done.returncode == 0 and summary["rows_per_table"]["files"] == summary["files"] == 4
    query = "SELECT store_id, count(*) AS n FROM prices_now GROUP BY 1"
    for form in ("json", "csv", "table"):
        assert "001" in run_cli("sql", query, "--lake", tmp_path / "lake", "--format", form).stdout
    for wrong in ("SELEC 1", "DROP VIEW prices", "SELECT 1; SELECT 2", ""):
        assert run_cli("sql", wrong, "--lake", tmp_path / "lake").returncode == 2
    outside = run_cli("sql", "COPY (SELECT 1) TO '/tmp/should_not_exist.csv'", "--lake", tmp_path / "lake")
    assert outside.returncode == 2 and not Path("/tmp/should_not_exist.csv").exists()


@pytest.mark.realdata
def test_real_daily_tables_come_back_to_the_last_agora(realdata, tmp_path):
    "Two of the days, the later one first: as of each day, every store's price is the file's price."
    folder = realdata / "history" / "daily_2026-08_7chains"
    paths = sorted(folder.glob("*prices*"))[:2]
    for path in reversed(paths):
        ingest(path, open_lake(tmp_path / "lake"), mapping="daily_2026_08", workers=1)
    for path in paths:
        said = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False)
        chain, store, code, price = (said.columns[n] for n in (1, 2, 3, 10))
        said = said.assign(store=said[store].str.zfill(3), price=said[price].astype(float))
        lake = open_lake(tmp_path / "lake", as_of=path.name[-17:-7])
        query = "SELECT chain_id, store_id, item_code, CAST(price_ils AS DOUBLE) AS price_ils FROM prices_now"
        answer = lake.sql(query).to_pandas()
        both = said.merge(
            answer, left_on=[chain, "store", code], right_on=["chain_id", "store_id", "item_code"], how="left"
        )
        positive = both[both["price"] > 0]
        assert len(positive) > 60_000 and (positive["price"] == positive["price_ils"]).all()
        assert len(answer) == len(positive)


def test_a_plain_script_may_ingest_with_workers(tmp_path):
    "Spawned readers must not run the caller's script again."
    write_market(tmp_path / "feeds", days=3, stores=2)
    script = tmp_path / "script.py"
    script.write_text(
        "from grocery import ingest, open_lake\nprint('once')\n"
        f"print(ingest({str(tmp_path / 'feeds')!r}, open_lake({str(tmp_path / 'lake')!r}), workers=2).totals['files'])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["once", "12"], done.stderr


def test_a_price_that_returns_in_the_very_same_bytes_returns(tmp_path):
    def write(day: int, price: str) -> Path:
        path = tmp_path / f"Price7290000000001-001-202603{day:02}0600.xml"
        rows = ITEM.format(7, 7, price)
        path.write_text(f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items>{rows}</Items></Root>")
        return path

    paths = [write(1, "5.00"), write(2, "6.00"), write(3, "5.00")]
    copy = tmp_path / "copy" / paths[0].name
    copy.parent.mkdir()
    copy.write_bytes(paths[0].read_bytes())
    done = ingest([*paths, copy], open_lake(tmp_path / "lake"), workers=1)
    told = history(tmp_path / "lake").sort_values("valid_from")
    assert told["price_ils"].astype(float).tolist() == [5, 6, 5] and done.skipped == 1


def test_a_file_of_many_row_groups_comes_back_whole(tmp_path):
    "A large file is staged in several row groups, each with words of its own: of three stores in turn, some without a sub-chain or a name."
    rows = []
    for n in range(40_000):
        sub = "" if n % 3 else f"<SubChainId>{1 + n // 20_000}</SubChainId>"
        name = "" if n % 5 else f"<ItemName>מוצר {n}</ItemName>"
        price = f"{1 + n % 977}.90"
        rows.append(
            f"<Item><StoreId>{1 + n // 15_000}</StoreId>{sub}<ItemCode>{10_000_000 + n}</ItemCode>{name}<ItemPrice>{price}</ItemPrice></Item>"
        )
    xml = f"<Root><ChainId>7290000000001</ChainId><Items>{''.join(rows)}</Items></Root>"
    (tmp_path / "PriceFull7290000000001-000-202603010600.xml").write_text(xml, encoding="utf-8")
    lines = "".join(PROMOTION_ITEM.format(10_000_000 + n) for n in range(40_000))
    (tmp_path / "PromoFull7290000000001-001-202603010700.xml").write_text(PROMO.format(1, lines), encoding="utf-8")
    done = ingest(tmp_path, open_lake(tmp_path / "lake"), workers=1)
    assert (done.totals["poisoned"], done.totals["rejected"]) == (0, {})
    assert (done.tables["prices"], done.tables["items"], done.tables["promotion_items"]) == (40_000, 40_000, 40_000)
    query = "SELECT store_id, sub_chain_id, item_name, price_ils FROM prices_now ORDER BY item_code"
    for n, row in enumerate(open_lake(tmp_path / "lake").sql(query).to_pylist()):
        assert row["store_id"] == f"{1 + n // 15_000:03}" and f"{row['price_ils']:.2f}" == f"{1 + n % 977}.90"
        assert row["item_name"] == (None if n % 5 else f"מוצר {n}")
        assert row["sub_chain_id"] == (None if n % 3 else str(1 + n // 20_000))


# --- what may happen to an ingest ----------------------------------------------------------------------------------------------------

START = (
    "import sys; sys.path.insert(0, sys.argv[3]); from bad_readers import read_slowly; "
    "from grocery.store.ingest import ingest; from grocery.store.lake import open_lake; "
    "ingest(sys.argv[1], open_lake(sys.argv[2]), workers=2, batch=9, read=read_slowly)"
)


def everything(lake_path: Path) -> dict[str, list[tuple]]:
    "Every row of every table, but for when and by which version of the code it came in."
    lake = open_lake(lake_path)
    tables = {
        n: lake.read(n).to_pandas().drop(columns=["ingested_at", "code_version"], errors="ignore")
        for n in TABLES
        if n != "audit"
    }
    return {n: sorted(map(repr, t.itertuples(index=False, name=None))) for n, t in tables.items()}


def leftovers(lake_path: Path) -> list[str]:
    "Files in a lake that no commit of any table speaks of."
    said = "".join(p.read_text() for p in lake_path.glob("*/_delta_log/*.json"))
    files = [p for p in lake_path.rglob("*") if p.is_file() and p.parent.name != "_delta_log"]
    logs = [
        p
        for p in lake_path.glob("*/_delta_log/*")
        if not re.fullmatch(r"\d{20}(\.checkpoint)?\.(json|parquet)|_last_checkpoint", p.name)
    ]
    return [str(p) for p in files if p.name not in unquote(said)] + list(map(str, logs))


def children(pid: int) -> list[int]:
    "The worker processes of a process."
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(p) for p in found if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text(errors="replace")]


def state(lake_path: Path) -> str:
    "What a kill interrupted: reading, or writing what does not count yet."
    marks, versions = _marks(str(lake_path)), last_versions(lake_path)
    if marks and marks != versions:
        return "writing"
    return "reading" if list(lake_path.glob(".staging/*/ledger.json")) else "starting"


def kill_and_finish(feeds: Path, target: Path, kills: int, seed: int) -> list[str]:
    "Start an ingest and kill it, or one of its workers, at random moments of its work, again and again; then let one end."
    chance, states = random.Random(seed), []
    command = [sys.executable, "-c", START, str(feeds), str(target), str(Path(__file__).parent)]
    while len(states) < kills:
        process = subprocess.Popen(command)
        signs = (".staging", ".staging/*/ledger.json", "*/_delta_log/*.json")  # begun, reading, writing
        sign, begun = signs[len(states) % 3], time.time()
        while process.poll() is None and not any(
            p.stat().st_mtime >= begun - 1 for p in list(target.glob(sign)) if p.exists()
        ):
            time.sleep(0.005)
        time.sleep(0.6 * chance.random() ** 2)
        if process.poll() is None and len(states) % 4 == 3 and (workers := children(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
            time.sleep(0.3 * chance.random())
        if process.poll() is not None:
            assert process.returncode == 0
            shutil.rmtree(target)  # it had ended: begin once more
            continue
        process.kill()
        process.wait()
        states.append(state(target))
    subprocess.run(command, check=True, timeout=120)
    return states


@pytest.fixture(scope="module")
def sixty(tmp_path_factory) -> tuple[Path, dict]:
    "Sixty files of prices, promotions and stores, and everything that an undisturbed ingest makes of them."
    folder = tmp_path_factory.mktemp("sixty")
    write_market(folder / "feeds", days=5, stores=5)
    for store in range(1, 6):
        xml = PROMO.format(store, "".join(PROMOTION_ITEM.format(100 + n) for n in range(5)))
        (folder / "feeds" / f"PromoFull7290000000001-{store:03}-202603020700.xml").write_text(xml)
        (folder / "feeds" / f"Promo7290000000001-{store:03}-202603040700.xml").write_text(xml.replace(">0.8<", ">0.7<"))
    ingest(folder / "feeds", open_lake(folder / "lake"), workers=1)
    return folder / "feeds", everything(folder / "lake")


def test_killed_at_four_moments(sixty, tmp_path):
    feeds, expected = sixty
    kill_and_finish(feeds, tmp_path / "lake", kills=4, seed=1)
    assert everything(tmp_path / "lake") == expected and len(expected["files"]) == 60
    assert leftovers(tmp_path / "lake") == []


@pytest.mark.slow
def test_killed_at_twenty_moments(sixty, tmp_path):
    "The lake of a run that was killed twenty times is row for row that of an undisturbed one, and nothing is left over."
    feeds, expected = sixty
    states = kill_and_finish(feeds, tmp_path / "lake", kills=20, seed=7)
    assert everything(tmp_path / "lake") == expected
    assert leftovers(tmp_path / "lake") == []
    assert len(set(states)) > 1, states  # the moments were not all of one kind


def test_nobody_sees_half_a_file(tmp_path, monkeypatch):
    "Between any two commits of a batch a reader sees the lake as it was before."
    import grocery.store.lake as lake_module

    paths = write_market(tmp_path / "feeds", days=2, stores=2)
    lake, write, seen = open_lake(tmp_path / "lake"), lake_module._write_delta, []
    ingest(paths[:4], lake, workers=1)
    before = everything(tmp_path / "lake")

    def looking(path, name, table, **how):
        if name != "audit":  # tells of what counts already
            seen.append(everything(tmp_path / "lake") == before)
        write(path, name, table, **how)

    monkeypatch.setattr(lake_module, "_write_delta", looking)
    ingest(paths[4:], lake, workers=1)
    assert len(seen) >= 4 and all(seen) and everything(tmp_path / "lake") != before


def poisoned_market(tmp_path: Path, *stores: int) -> Path:
    "A good market, and one file each of stores that break their reader."
    good = write_market(tmp_path / "feeds", days=2, stores=2)
    for store in stores:
        data = gzip.decompress(good[0].read_bytes()).decode().replace("<StoreId>1<", f"<StoreId>{store}<")
        (tmp_path / "feeds" / f"PriceFull7290000000001-{store}-202603010600.xml").write_text(data)
    return tmp_path / "feeds"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_breaks_its_reader_is_set_aside_with_its_traceback(tmp_path, workers):
    feeds = poisoned_market(tmp_path, 901)
    done = ingest(feeds, open_lake(tmp_path / "lake"), workers=workers, read=bad_readers.read)
    assert (done.totals["files"], done.totals["poisoned"], done.totals["incomplete_files"]) == (9, 1, 1)
    (row,) = open_lake(tmp_path / "lake").sql("SELECT * FROM files WHERE kind = 'unknown'").to_pylist()
    assert row["complete"] is False and "901" in row["path"] and row["published_at"] is not None
    assert "could not be read: ValueError: this file breaks its reader" in row["problems"][0]
    assert "bad_readers.py" in row["problems"][0] and done.totals["problems"][0]["count"] == 1
    assert ingest(feeds, open_lake(tmp_path / "lake"), workers=1).skipped == 9


def test_a_poison_file_is_tried_again_by_another_version(tmp_path, monkeypatch):
    import grocery.store.ingest as module
    import grocery.store.staging as staging

    feeds = poisoned_market(tmp_path, 901)
    ingest(feeds, open_lake(tmp_path / "lake"), workers=1, read=bad_readers.read)
    for m in (module, staging):
        monkeypatch.setattr(m, "__version__", "99")
    again = ingest(feeds, open_lake(tmp_path / "lake"), workers=1)
    assert (again.totals["files"], again.totals["poisoned"], again.skipped) == (1, 0, 8)
    ingest(feeds, open_lake(tmp_path / "whole"), workers=1)
    assert everything(tmp_path / "lake") == everything(tmp_path / "whole")


def test_hangs_and_deaths_cost_only_their_files(tmp_path):
    "One hangs, one kills its reader, one does so once, one takes all memory: three are set aside, the others go on."
    feeds = poisoned_market(tmp_path, 902, 903, 904, 905)
    lake = open_lake(tmp_path / "lake")
    done = ingest(feeds, lake, workers=2, read=bad_readers.read, seconds=1.5)
    rows = lake.sql("SELECT path, problems[1] AS p FROM files WHERE kind = 'unknown' ORDER BY path").to_pylist()
    said = {re.search(r"-(90\d)-", r["path"])[1]: r["p"] for r in rows}
    assert set(said) == {"902", "903", "905"} and done.totals["poisoned"] == 3
    assert "longer than" in said["902"] and "bad_readers.py" in said["902"]  # where it hung
    assert "killed" in said["903"] and "out of memory" in said["905"]
    assert lake.sql("SELECT 1 FROM prices WHERE store_id = '904'").num_rows and done.totals["files"] == 12
    assert leftovers(tmp_path / "lake") == []


def test_problems_are_counted_by_kind(tmp_path):
    paths = write_market(tmp_path / "feeds", days=4, stores=2)
    for path in paths[:6]:
        path.write_bytes(path.read_bytes()[:-40])
    totals = ingest(tmp_path / "feeds", open_lake(tmp_path / "lake"), workers=1).totals
    kinds = totals["problems"]
    assert len(kinds) < 6 and sum(k["count"] for k in kinds) >= 6
    assert all(1 <= len(k["examples"]) <= 3 for k in kinds) and totals["incomplete_files"] == 6


def test_progress_says_rate_and_time_left(tmp_path):
    paths, seen = write_market(tmp_path / "feeds", days=4, stores=2), []
    ingest(tmp_path / "feeds", open_lake(tmp_path / "lake"), workers=1, progress=seen.append)
    total = sum(p.stat().st_size for p in paths)
    assert [p.files for p in seen] == list(range(1, 17)) and {(p.files_total, p.bytes_total) for p in seen} == {
        (16, total)
    }
    assert seen[-1].bytes == total and seen[-1].seconds_left == 0 and seen[3].seconds_left > 0
    last = seen[-1]
    assert last.rows == 16 * 7 and last.rows_per_s == pytest.approx(last.rows / last.seconds)
    assert last.mb_per_s == pytest.approx(total / 1e6 / last.seconds)


# --- two at once --------------------------------------------------------------------------------------------------------------------


def test_two_ingests_into_one_lake_exclude_each_other(tmp_path):
    feeds = tmp_path / "feeds"
    write_market(feeds, days=6, stores=5)
    command = [sys.executable, "-c", START, str(feeds), str(tmp_path / "lake"), str(Path(__file__).parent)]
    first = subprocess.Popen(command)
    while not (tmp_path / "lake" / ".staging").exists() and first.poll() is None:
        time.sleep(0.01)
    with pytest.raises(LakeError, match=f"process {first.pid} on"):
        ingest(feeds, open_lake(tmp_path / "lake"), workers=1, wait=0)
    assert first.wait(60) == 0
    assert ingest(feeds, open_lake(tmp_path / "lake"), workers=1).skipped == 60


def test_a_dead_process_holds_no_lock(tmp_path):
    from grocery.store.staging import lock_lake

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lake = tmp_path / "lake"
    lake.mkdir()
    holder = {"pid": gone.pid, "host": socket.gethostname(), "since": "2026-03-01 00:00:00", "began": 5.0}
    (lake / ".lock").write_text(json.dumps(holder))
    with lock_lake(str(lake)) as lock:
        assert lock.died_at == 5.0 and json.loads((lake / ".lock").read_text())["pid"] == os.getpid()
        with pytest.raises(LakeError, match=str(os.getpid())), lock_lake(str(lake)):
            pass
    assert not (lake / ".lock").exists()
    (lake / ".lock").write_text(json.dumps(holder | {"host": "another-machine"}))
    with pytest.raises(LakeError, match="another-machine"), lock_lake(str(lake)):
        pass
    os.utime(lake / ".lock", (0, 0))
    with lock_lake(str(lake)) as lock:
        assert lock.died_at == 5.0


# --- elsewhere ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dask(tmp_path):
    "A real scheduler and two worker processes on loopback; gives the address and the workers."
    distributed = pytest.importorskip("distributed")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
        env=environment,
        local_directory=str(tmp_path / "dask"),
        silence_logs=50,
    )
    yield cluster
    cluster.close()


def test_the_same_on_dask_workers(dask, sixty, tmp_path):
    feeds, expected = sixty
    done = ingest(feeds, open_lake(tmp_path / "lake"), dask=dask.scheduler_address, batch=17)
    assert everything(tmp_path / "lake") == expected and done.totals["files"] == 60
    assert leftovers(tmp_path / "lake") == []


def test_a_lost_dask_worker_costs_only_its_own_file(dask, tmp_path):
    feeds = poisoned_market(tmp_path, 901, 903, 904)
    done = ingest(feeds, open_lake(tmp_path / "lake"), dask=dask.scheduler_address, read=bad_readers.read)
    poisoned = open_lake(tmp_path / "lake").sql("SELECT path FROM files WHERE kind = 'unknown' ORDER BY path")
    assert [p[-20:-17] for p in poisoned["path"].to_pylist()] == ["901", "903"] and done.totals["files"] == 11
    assert leftovers(tmp_path / "lake") == []


def test_no_dask_scheduler_is_one_clear_line(tmp_path, monkeypatch):
    import grocery.store.staging as staging

    monkeypatch.setattr(staging, "PATIENCE", 1)
    paths = write_market(tmp_path / "feeds", days=1, stores=1)
    with pytest.raises(SourceError, match="no answer"):
        ingest(paths, open_lake(tmp_path / "lake"), dask="tcp://127.0.0.1:9")
    assert not (tmp_path / "lake").exists()


# --- how much memory ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    "Four times the files, of other stores, in portions of the same size: the writer's peak stays where it was."
    code = (
        "import resource, sys; import grocery.store.ingest as m; from grocery.store.lake import open_lake; "
        "m.PORTION = m.BATCH_ROWS = 4000; m.ingest(sys.argv[1], open_lake(sys.argv[2]), workers=2); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peaks = []
    for n, stores in enumerate((6, 24)):
        write_market(tmp_path / f"feeds{n}", days=1, stores=stores, items=2000)
        command = [sys.executable, "-c", code, str(tmp_path / f"feeds{n}"), str(tmp_path / f"lake{n}")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout))
    assert peaks[1] < peaks[0] + 60, peaks


def test_a_pipe_is_no_source(tmp_path):
    os.mkfifo(tmp_path / "PriceFull7290000000001-001-202601010600.xml")
    with pytest.raises(SourceError, match="there is no such file or folder"):
        ingest(tmp_path / "PriceFull7290000000001-001-202601010600.xml", open_lake(tmp_path / "lake"))


def test_a_dask_address_without_a_port_is_said_at_once(tmp_path):
    write_market(tmp_path / "feeds", days=1, stores=1)
    done = run_cli("ingest", tmp_path / "feeds", "--lake", tmp_path / "lake", "--dask", "nothere")
    assert done.returncode == 2 and "it names no port" in done.stderr and len(done.stderr.splitlines()) == 1
