"""The sample market is what it says: every file read by another reader, every truth found in the files."""

import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
import zlib
from datetime import date, timedelta
from html import unescape

import numpy as np
import pandas as pd
import pytest
from lxml import etree

from grocery.errors import GroceryError, SourceError
from grocery.sample import market as m
from grocery.sample.layouts import LAYOUTS
from grocery.sample.prices import ERRORS, LEAST_ERROR, MEANINGS, make_book, make_effects, make_factors, make_stores
from grocery.sample.products import CHAINS, add_check_digit, make_items, make_products

DAYS, PRODUCTS = 16, 120
CODECS = {"utf-8-sig": "utf-8-sig", "utf-8": "utf-8", "utf-16": "utf-16", "cp1255": "cp1255"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return m.make_sample_market(tmp_path_factory.mktemp("sample") / "market", days=DAYS, products=PRODUCTS)


@pytest.fixture(scope="module")
def truth(folder):
    return {name: m.read_truth(folder, name) for name in m.TRUTH}


def unpack(data):
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            return archive.read(archive.namelist()[0])
    return data


@pytest.fixture(scope="module")
def texts(folder, truth):
    "Every whole file's text, decoded strictly as its bytes are, not as they declare."
    whole = truth["files"][truth["files"]["complete"]]
    return {
        row.path: unpack((folder / "feeds" / row.path).read_bytes()).decode(CODECS[row.encoding])
        for row in whole.itertuples()
    }


def records_of(text, tag):
    return re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)


def fact(record, *tags):
    for tag in tags:
        found = re.search(rf"<{tag}>(.*?)</{tag}>", record, re.S)
        if found:
            return unescape(found[1])
    return ""


def record_tag(row):
    layout = LAYOUTS[row.layout]
    if row.kind.startswith("Price"):
        return layout.price_record
    if row.kind.startswith("Promo"):
        return {"sales": "Sale", "lines": "Line"}.get(layout.promo_shape, "Promotion")
    return {"shufersal": "STORE", "laib": "Branch", "superpharm": "Line"}.get(row.layout, "Store")


def ledger(texts, truth, kinds=("Price", "PriceFull")):
    files = truth["files"]
    for row in files[files["complete"] & files["kind"].isin(kinds)].sort_values("published_at").itertuples():
        yield row, records_of(texts[row.path], record_tag(row))


def test_the_table_of_files_names_every_file_and_no_other(folder, truth):
    on_disk = {str(p.relative_to(folder / "feeds")) for p in (folder / "feeds").rglob("*") if p.is_file()}
    assert on_disk == set(truth["files"]["path"])
    assert len(on_disk) == len(truth["files"])
    for row in truth["files"].itertuples():
        assert (folder / "feeds" / row.path).stat().st_size == row.bytes


def test_record_counts_are_those_of_an_independent_count(texts, truth):
    for row in truth["files"][truth["files"]["complete"]].itertuples():
        text = texts[row.path]
        assert len(records_of(text, record_tag(row))) == row.records, row.path
        declared = re.search(r'Count="(\d+)"', text)
        assert not declared or int(declared[1]) == row.records
    assert (truth["files"]["layout"].eq("cerberus")).any()


def test_every_whole_file_is_well_formed_xml(texts):
    parser = etree.XMLParser(resolve_entities=False)
    for path, text in texts.items():
        body = re.sub(r"^<\?xml[^>]*\?>\s*", "", text)
        assert etree.fromstring(body.encode(), parser) is not None, path
        assert "�" not in text and not re.search("[\x00-\x08]", text), path


def test_one_gzip_ends_early_and_says_how_many_records_survive(folder, truth):
    cut = truth["files"][~truth["files"]["complete"]]
    assert len(cut) == 1 and cut["compression"].eq("gzip").all()
    data = (folder / "feeds" / cut["path"].iloc[0]).read_bytes()
    with pytest.raises(EOFError):
        gzip.decompress(data)
    text = zlib.decompressobj(31).decompress(data).decode(cut["encoding"].iloc[0], errors="ignore")
    survive = len(records_of(text, LAYOUTS[cut["layout"].iloc[0]].price_record))
    assert survive == cut["records"].iloc[0] > 0


def test_the_lost_file_is_not_there(truth):
    lost = truth["events"].query("kind == 'lost_file'").iloc[0]
    files = truth["files"].query("kind == 'PriceFull' and store_id == @lost.store_id and chain_id == @lost.chain_id")
    days = set(files["published_at"].dt.tz_convert("Asia/Jerusalem").dt.date)
    assert lost.starts_on not in days and len(days) == DAYS - 1


def test_bytes_are_what_the_table_says(folder, truth):
    magic = {"gzip": b"\x1f\x8b", "zip": b"PK\x03\x04"}
    for row in truth["files"].itertuples():
        data = (folder / "feeds" / row.path).read_bytes()
        start = magic.get(row.compression)
        assert data.startswith(start) if start else data[:2] not in (b"\x1f\x8b", b"PK")
        if row.complete:
            raw = unpack(data)
            assert raw.startswith(b"\xef\xbb\xbf") == (row.encoding == "utf-8-sig")
            assert raw.startswith(b"\xff\xfe") == (row.encoding == "utf-16")
    seen = truth["files"]
    assert set(seen["encoding"]) == set(CODECS) and set(seen["compression"]) == {"gzip", "zip", "plain"}
    assert set(seen["layout"]) == set(LAYOUTS)
    assert (seen["path"].str.endswith(".gz") & seen["compression"].eq("zip")).any()
    assert (seen["path"].str.endswith(".aspx.xml") & seen["compression"].eq("gzip")).any()


def test_windows_1255_is_declared_as_something_else_and_needs_its_own_codec(folder, truth):
    rows = truth["files"].query("encoding == 'cp1255' and kind == 'PriceFull' and complete")
    for layout, declared, codec in (("laib", b'encoding="utf-8"', "utf-8"), ("superpharm", b"ISO-8859-8", "iso8859-8")):
        raw = unpack((folder / "feeds" / rows[rows["layout"].eq(layout)]["path"].iloc[0]).read_bytes())
        assert declared in raw[:80]
        with pytest.raises(UnicodeDecodeError):
            raw.decode(codec)


def test_the_chain_that_changes_its_layout_does_so_once_midway(truth):
    one = truth["files"].query("chain_id == @CHAINS[1].chain_id and kind == 'PriceFull'").sort_values("published_at")
    changes = one["layout"].ne(one["layout"].shift()).sum()
    assert changes == 2 and one["layout"].iloc[0] == "shufersal" and one["layout"].iloc[-1] == "unified"


def test_published_times_are_utc_of_the_name(truth):
    for row in truth["files"].itertuples():
        stamp = re.search(r"-(\d{8})-?(\d{4})", row.path)
        local = row.published_at.tz_convert("Asia/Jerusalem")
        assert f"{local:%Y%m%d%H%M}" == stamp[1] + stamp[2]


def test_prices_in_the_files_at_the_end_of_each_day_are_the_published_truth(texts, truth):
    "Read full files and updates in the order of publication; the last word of a day is the truth of that day."
    tags = ["ItemCode"], ["ItemPrice"], ["PriceUpdateDate", "PriceUpdateTime"]
    known, rows = {}, []
    events = truth["events"][truth["events"]["kind"].isin(["lost_file", "truncated_file"])]
    skip = set(zip(events["chain_id"], events["store_id"], events["starts_on"], strict=True))
    for row, records in ledger(texts, truth):
        day = row.published_at.tz_convert("Asia/Jerusalem").date()
        best = {}
        for record in records:
            code, price, when = (fact(record, *names) for names in tags)
            if when != m.BAD_DATE and price and (code not in best or when > best[code][0]):
                best[code] = (when, float(price))
        for code, (_, price) in best.items():
            known[row.chain_id, row.store_id, day, code] = price
    for row in truth["prices"][truth["prices"]["available"]].itertuples():
        if (row.chain_id, row.store_id, row.day) not in skip:
            rows.append((known[row.chain_id, row.store_id, row.day, row.item_code], row.published_price_ils))
    said, true = np.array(rows).T
    assert len(rows) > 15_000 and np.array_equal(said, true)


def test_a_gross_error_is_in_the_mornings_full_files_and_mended_in_the_next(texts, truth):
    said = {}
    for row, records in ledger(texts, truth, ("PriceFull",)):
        day = row.published_at.tz_convert("Asia/Jerusalem").date()
        for record in records:
            key = row.chain_id, row.store_id, fact(record, "ItemCode"), day
            said.setdefault(key, set()).add(fact(record, "ItemPrice"))
    for row in truth["events"].query("kind == 'gross_price_error'").itertuples():
        long = (row.ends_on - row.starts_on).days + 1
        for days, price in (*((n, row.value_after) for n in range(long)), (long, row.value_before)):
            key = row.chain_id, row.store_id, row.item_code, row.starts_on + timedelta(days)
            assert price in set(map(float, said[key]))


def test_changes_are_told_in_the_morning_and_in_both_updates(truth):
    updates = truth["files"].query("kind == 'Price' and records > 0")
    assert set(updates["published_at"].dt.tz_convert("Asia/Jerusalem").dt.hour) == {11, 16}


def test_a_full_file_lists_exactly_what_is_available_besides_its_traps(texts, truth):
    prices, known = truth["prices"], set(zip(truth["items"]["chain_id"], truth["items"]["item_code"], strict=True))
    here = prices[prices["available"]].groupby(["chain_id", "store_id", "day"])["item_code"].agg(set)
    for row, records in ledger(texts, truth, ("PriceFull",)):
        day = row.published_at.tz_convert("Asia/Jerusalem").date()
        codes = {fact(record, "ItemCode") for record in records}
        assert {code for code in codes if (row.chain_id, code) in known} == here[row.chain_id, row.store_id, day]


def test_names_in_the_last_full_files_are_the_spellings_of_the_truth(texts, truth):
    spelled = truth["items"].set_index(["chain_id", "item_code"])["item_name"]
    last = {}
    for row, records in ledger(texts, truth, ("PriceFull",)):
        for record in records:
            last[row.chain_id, fact(record, "ItemCode")] = fact(record, "ItemName", "ItemNm")
    for key, name in spelled.items():
        assert last[key] == name
    assert all(len(last[key]) <= 20 for key in spelled.index if key[0] == CHAINS[0].chain_id)


def test_traps_are_counted_exactly(texts, truth):
    "Count again, from the texts, every trap that can be told from one file."
    told = truth["traps"].set_index(["path", "kind"])["count"].to_dict()
    assert set(truth["traps"]["kind"]) <= set(m.TRAPS)
    for row, records in ledger(texts, truth):
        names = [fact(record, "ItemName", "ItemNm") for record in records]
        codes = [fact(record, "ItemCode") for record in records]
        prices = [fact(record, "ItemPrice") for record in records]
        facts = [(fact(r, "ManufacturerName", "ManufactureName"), fact(r, "ManufactureCountry")) for r in records]
        whens = [fact(record, "PriceUpdateDate", "PriceUpdateTime") for record in records]
        extra = [e for e in m.EXTRAS if any(c and c == m._wrong_digit(e[3]) for c in codes)]
        again = {
            "zero_price": sum(price != "" and float(price) == 0 for price in prices),
            "missing_price": prices.count(""),
            "missing_code": codes.count(""),
            "bad_code": sum(bool(re.search(r"[^0-9]", code)) for code in codes),
            "bad_update": whens.count(m.BAD_DATE),
            "exact_duplicate": len(records) - len(set(records)),
            "placeholder_price": prices.count("99999.00"),
            "penny_price": prices.count("0.01"),
            "deposit": sum(e[0] == "deposit" for e in extra),
        }
        again["conflicting_duplicate"] = len(codes) - len(set(codes)) - again["exact_duplicate"]
        known = set(truth["items"].loc[truth["items"]["chain_id"].eq(row.chain_id), "item_code"])
        mine = [place for place, code in enumerate(codes) if code in known]
        firsts = [place for place in mine if codes.index(codes[place]) == place]
        again |= {
            "rtl_mark": sum("\u200f" in names[p] for p in firsts),
            "double_space": sum("  " in names[p] for p in firsts),
            "trailing_space": sum(names[p].endswith(" ") for p in firsts),
            "backtick": sum("`" in names[p] for p in firsts),
            "braces": sum("{" in names[p] for p in firsts),
            "reversed_bracket": sum(")מבצע(" in names[p] for p in firsts),
            "kaf_quantity": sum("<Quantity>כ" in records[p] for p in firsts),
            "unknown_word": sum(word in m.UNKNOWN_WORDS for p in firsts for word in facts[p]),
        }
        for kind, count in again.items():
            assert count == told.get((row.path, kind), 0), (row.path, kind)


def test_promotions_stand_in_the_files_with_their_codes(texts, truth):
    seen, fields = {}, {}
    for row, records in ledger(texts, truth, ("Promo", "PromoFull")):
        for record in records:
            key = row.chain_id, row.store_id, fact(record, "PromotionId", "PromotionID")
            seen.setdefault(key, []).extend(re.findall(r"<ItemCode>(\d+)</ItemCode>", record))
            fields[key] = record
    for row in truth["promotions"].itertuples():
        key = row.chain_id, row.store_id, row.promotion_id
        assert set(seen[key]) == set(row.item_codes)
        assert unescape(fact(fields[key], "PromotionDescription")) == row.description.replace(
            "'" if row.chain_id == CHAINS[3].chain_id else "\0", "`"
        ).replace('"' if row.chain_id == CHAINS[3].chain_id else "\0", "`")
        if pd.notna(row.price_ils):
            assert float(fact(fields[key], "DiscountedPrice")) == row.price_ils
        if row.meaning == "second_unit_price":
            assert float(fact(fields[key], "MinQty")) == (1 if row.chain_id == CHAINS[0].chain_id else 2)
            assert "השני ב-" in row.description
    assert set(truth["promotions"]["meaning"]) == set(MEANINGS)


def test_stores_files_name_the_stores(texts, truth):
    for row, records in ledger(texts, truth, ("Stores",)):
        said = {fact(r, "StoreId", "StoreID", "STOREID").zfill(3): fact(r, "StoreName", "STORENAME") for r in records}
        mine = truth["stores"][truth["stores"]["chain_id"].eq(row.chain_id)]
        assert {k: v for k, v in said.items() if k != "777"} == dict(
            zip(mine["store_id"], mine["store_name"], strict=True)
        )
    assert truth["stores"]["latitude"].between(29, 33.5).all() and truth["stores"]["longitude"].between(34, 36).all()


def test_errors_shortages_and_steps_are_where_the_events_say(truth):
    prices, events = truth["prices"], truth["events"]
    wrong = prices[prices["price_ils"] != prices["published_price_ils"]]
    told = events.query("kind == 'gross_price_error'")
    left = set(zip(wrong["chain_id"], wrong["store_id"], wrong["item_code"], wrong["day"], strict=True))
    right = {
        (row.chain_id, row.store_id, row.item_code, row.starts_on + timedelta(n))
        for row in told.itertuples()
        for n in range((row.ends_on - row.starts_on).days + 1)
    }
    assert left == right and len(right) > len(told) > 0
    assert set(told["error"]) == set(ERRORS) and events.loc[events["kind"] != "gross_price_error", "error"].isna().all()
    at = prices.set_index(["chain_id", "store_id", "item_code", "day"]).sort_index()
    for row in told.itertuples():
        cell = at.loc[(row.chain_id, row.store_id, row.item_code, row.starts_on)]
        assert (cell["price_ils"], cell["published_price_ils"]) == (row.value_before, row.value_after)
        assert abs(row.value_after / row.value_before - 1) >= LEAST_ERROR - 1e-9 and row.value_after > 0
    missing = sum((row.ends_on - row.starts_on).days + 1 for row in events.query("kind == 'shortage'").itertuples())
    assert missing == (~prices["available"]).sum() > 0
    first = truth["stores"].groupby("chain_id")["store_id"].first()
    for row in events.query("kind == 'price_step'").itertuples():
        around = [
            (row.chain_id, first[row.chain_id], row.item_code, row.starts_on - timedelta(back)) for back in (1, 0)
        ]
        assert [at.loc[key, "price_ils"] for key in around] == [row.value_before, row.value_after]
    for row in events.query("kind == 'price_drop'").itertuples():
        store_id = row.store_id or first[row.chain_id]
        days = [row.starts_on + timedelta(n) for n in range(-1, (row.ends_on - row.starts_on).days + 2)]
        said = [at.loc[(row.chain_id, store_id, row.item_code, day), "price_ils"] for day in days]
        assert (
            said == [row.value_before, *[row.value_after] * (len(days) - 2), row.value_before]
            and row.value_after < row.value_before
        )
    assert {None} < set(events.query("kind == 'price_drop'")["store_id"])  # chain-wide ones, and of single stores


def test_codes_are_valid_and_short_ones_mean_another_product_elsewhere(truth):
    def valid(code):
        return len(code) == 13 and add_check_digit(code[:12]) == code

    items = truth["items"]
    gtins = truth["products"]["gtin"].dropna()
    assert gtins.map(valid).all() and gtins.str.startswith("729").all() and gtins.is_unique
    assert all(valid(chain.chain_id) and chain.chain_id.startswith("7290") for chain in CHAINS)
    assert not items.duplicated(["chain_id", "item_code"]).any()
    own = items[items["item_code"].str.len() < 13]
    assert own["item_code"].str.fullmatch(r"\d{1,5}").all()
    big = make_items(make_products())
    short = big[big["item_code"].str.len() < 13]
    assert (short.groupby("item_code")["product_id"].nunique() > 1).sum() >= 3


def test_the_default_market_has_the_size_it_promises():
    products = make_products()
    items = make_items(products)
    assert len(products) == 360 and products["category"].nunique() >= 12 and products["name_hebrew"].is_unique
    sold = items.groupby("chain_id").size()
    assert len(sold) == 5 and sold.between(200, 320).all() and set(items["product_id"]) == set(products["product_id"])
    spellings = items.groupby("product_id")["item_name"].nunique()
    assert (spellings > 2).mean() > 0.5
    assert items["item_name"].str.contains("[A-Za-z]{4}").mean() > 0.05


def test_a_holiday_and_a_season_are_in_the_prices():
    products, start, days = make_products(200), date(2026, 4, 2), 90
    effects = make_effects(products, start, days)
    factors = make_factors(products, effects, start, days)
    stores, items = make_stores(), make_items(products)
    book = make_book(CHAINS[2], products, items, stores, factors, np.zeros((3, days), bool), start, 7)
    dairy = np.flatnonzero(book.items["category"].eq("dairy"))
    eve, before = (date(2026, 5, 20) - start).days, (date(2026, 5, 8) - start).days
    ratio = np.median(book.shelf[:, dairy, eve] / book.shelf[:, dairy, before])
    assert 0.84 < ratio < 0.93
    melon = np.flatnonzero(book.items["core"].eq("אבטיח"))
    assert (book.shelf[:, melon, -7:].mean() / book.shelf[:, melon, :7].mean()) < 0.8


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_market(tmp_path):
    small = dict(days=3, products=40, stores_per_chain=1)
    one, two, three = (m.make_sample_market(tmp_path / n, seed=s, **small) for n, s in (("a", 7), ("b", 7), ("c", 8)))
    assert digest(one) == digest(two) != digest(three)
    assert not set(m.read_truth(one, "products")["gtin"].dropna()) & set(
        m.read_truth(three, "products")["gtin"].dropna()
    )


def test_a_market_that_is_there_is_left_and_another_one_replaces_it(tmp_path):
    place, small = tmp_path / "market", dict(products=40, stores_per_chain=1)
    m.make_sample_market(place, days=2, **small)
    stamp = (place / "manifest.json").stat().st_mtime_ns
    m.make_sample_market(place, days=2, **small)
    assert (place / "manifest.json").stat().st_mtime_ns == stamp
    m.make_sample_market(place, days=1, **small)
    assert m.read_manifest(place)["days"] == 1 and [p.name for p in tmp_path.iterdir()] == ["market"]


def test_a_failure_leaves_nothing_behind_and_the_old_market_stays(tmp_path, monkeypatch):
    place, small = tmp_path / "market", dict(products=40, stores_per_chain=1)
    m.make_sample_market(place, days=1, **small)
    before = digest(place)
    monkeypatch.setattr(m, "_write_truth", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        m.make_sample_market(place, days=2, **small)
    assert digest(place) == before and [p.name for p in tmp_path.iterdir()] == ["market"]


def test_a_folder_that_is_somebody_elses_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SourceError, match="not empty"):
        m.make_sample_market(tmp_path, days=1, products=40)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(SourceError, match="allowed: 1 to"):
        m.make_sample_market(tmp_path / "new", days=0)
    with pytest.raises(SourceError, match="make_sample_market"):
        m.read_truth(tmp_path / "nowhere", "prices")
    with pytest.raises(GroceryError, match="Did you mean prices"):
        m.read_truth(tmp_path, "price")


@pytest.mark.parametrize("days", [1, 2, 4])
def test_short_markets_are_whole_too(tmp_path, days):
    place = m.make_sample_market(tmp_path / "market", days=days, products=28, stores_per_chain=2)
    files = m.read_truth(place, "files")
    full = files[files["kind"].eq("PriceFull")]
    assert len(full) == 5 * 2 * days - (days > 2)


def test_labels_say_every_items_category(folder, truth):
    labels = m.make_labels(folder)
    assert len(labels) == len(truth["items"]) and labels["category"].notna().all()
    assert list(labels.columns) == ["item_name", "chain_id", "item_code", "category"]


def test_progress_is_told(tmp_path):
    told = []
    m.make_sample_market(tmp_path / "m", days=1, products=28, stores_per_chain=1, progress=lambda *a: told.append(a))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_the_house_reads_its_own_market_to_the_last_row(folder, truth):
    "Kind, place, time, rows, rejects by reason and duplicates of every file, as room 1 finds them, are those of the truth."
    from grocery.feeds.check import read_feed

    traps = truth["traps"].assign(then=truth["traps"]["kind"].map(m.TRAPS)).query("then != 'accepted'")
    told = {path: group.groupby("then")["count"].sum().to_dict() for path, group in traps.groupby("path")}
    for row in truth["files"].itertuples():
        path = folder / "feeds" / row.path
        found = read_feed(path.read_bytes(), path.name).ledger
        rejected = told.get(row.path, {})
        duplicates, broken = rejected.pop("duplicate", 0), {} if row.complete else {"truncated_record": 1}
        assert found["rejected"] == rejected | broken, row.path
        assert (found["rows_in"], found["duplicates"]) == (row.records + len(broken), duplicates), row.path
        assert (found["kind"], found["chain_id"], found["store_id"]) == (row.kind, row.chain_id, row.store_id)
        assert (found["published_at"], found["complete"]) == (row.published_at, row.complete)


def test_another_process_makes_the_same_bytes(tmp_path):
    "Hashes of strings differ between processes; a market must not."
    code = "import sys; from grocery.sample.market import *; make_sample_market(sys.argv[1], days=1, products=30)"
    for seed in ("1", "2"):
        environ = os.environ | dict(PYTHONHASHSEED=seed)
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], check=True, env=environ)
    assert digest(tmp_path / "1") == digest(tmp_path / "2")


@pytest.mark.realdata
def test_nothing_here_exists(realdata):
    "No barcode, chain id, chain name or brand of the sample is one of the real data."
    chains = pd.read_csv(realdata / "chains.csv", dtype=str)
    assert not set(chains["chain_id"]) & {chain.chain_id for chain in CHAINS}
    assert not set(chains["name_he"]) & {chain.name for chain in CHAINS}
    with gzip.open(realdata / "derived" / "shared_barcodes.jsonl.gz", "rt", encoding="utf-8") as lines:
        text = lines.read()
    codes = set(re.findall(r'"(729\d{10})"', text))
    assert len(codes) > 1000 and not codes & set(make_products()["gtin"].dropna())
