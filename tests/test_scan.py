"""The fast scan must be the conforming parser, only sooner: on real files, and on records that are nearly plain."""

import io
import json
import random
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.bench import make_price_file
from grocery.feeds import parse, scan
from grocery.feeds.check import read_feed, write_feed
from grocery.feeds.clean import make_gtin

NAME = "PriceFull7290000000001-001-202603010341.xml"
ALWAYS, NEVER = 1, 1 << 60


def read(data: bytes, name: str, scan_from: int) -> tuple:
    "Read a file with or without the scan; everything that may be compared."
    before, parse.SCAN_FROM = parse.SCAN_FROM, scan_from
    try:
        feed = read_feed(data, name)
    finally:
        parse.SCAN_FROM = before
    tables = {n: sorted(map(repr, t.to_pylist())) for n, t in feed.tables.items() if t.num_rows}
    rejects = sorted((r["row"], r["reason"], r["detail"]) for r in feed.rejects)
    return {k: v for k, v in feed.ledger.items() if k != "problems"}, tables, rejects


def test_the_scan_is_there():
    "Where numba is installed, as it is for these tests, the scan must be made, tried and loaded."
    assert scan.can_scan()


@pytest.mark.realdata
def test_real_files_read_the_same_at_both_speeds(realdata):
    scanned = 0
    for path in sorted(p for p in (realdata / "feeds").rglob("*Price*") if p.is_file()):
        data = path.read_bytes()
        fast, slow = read(data, path.name, ALWAYS), read(data, path.name, NEVER)
        assert fast == slow, path.name
        scanned += fast[0]["rows_in"]
    assert scanned > 50_000


FIELDS = "PriceUpdateDate ItemCode LastSaleDateTime ItemType ItemName ManufacturerName UnitQty Quantity UnitOfMeasure bIsWeighted QtyInPackage ItemPrice AllowDiscount"
texts = {
    "PriceUpdateDate": ["2026-03-01 06:00", "2026-03-27 02:30:00", "2026-10-25 01:30", "1979-01-01", "02/11/22", "2026-02-30 10:00", "", "2026-03-01T06:50:11.000", "2026/03/01", "24:00"],
    "ItemCode": ["7290000000015", "15", "0", "00015", "a-b", "a b", "", " 15 ", "1" * 41, "2000000000008", "10181040009", "5&amp;6"],
    "LastSaleDateTime": ["2015-01-01T00:00:00.000", "", "2026-02-28T20:11:00.000"],
    "ItemType": ["1", "", "&lt;"],
    "ItemName": ["חלב 3% 1 ליטר", "  חלב ", "a &amp; b", "a & b", "&quot;x&quot;", "x\x0by", "ﬁ", "a]]>b", "<![CDATA[y]]>", "", "x" * 300, "&#65;", "\u200fא", "500 מ״ל"],
    "ManufacturerName": ["לא ידוע", "שם", "null"],
    "UnitQty": ["ליטרים", "גרמים", "", "???"],
    "Quantity": ["1.00", "0.00", "כ1.5", "500"],
    "UnitOfMeasure": ["100 גרם", "ליטר", ""],
    "bIsWeighted": ["0", "1", "x"],
    "QtyInPackage": ["12.0000", "לא ידוע"],
    "ItemPrice": ["6.90", "0", "0.00", "99999", "99998.9999", "1,234.50", "12x", "", "6.", ".5", "1e3", "00012.5", "1.23456", " 7 ", "-3", "123456"],
    "AllowDiscount": ["1", "0", "", "2", "true"],
}  # fmt: skip


@st.composite
def records(draw) -> str:
    "One record: nearly plain, with whatever feeds put in."
    order = FIELDS.split() if draw(st.integers(0, 4)) else draw(st.permutations(FIELDS.split()))
    parts = []
    for tag in order:
        kind = draw(st.integers(0, 19))
        text = draw(st.sampled_from(texts[tag]))
        if kind == 0:
            continue
        parts.append(f"<{tag}/>" if kind == 1 else f"<{tag} />" if kind == 2 else f'<{tag} a="1">{text}</{tag}>' if kind == 3 else f"<{tag}>{text}</{tag}>")  # fmt: skip
        if kind == 4:
            parts.append(parts[-1])
        if kind == 5:
            parts.append(
                draw(st.sampled_from(["<Other>1</Other>", "<!-- c -->", "text", "<Item>", "</Item><Item>", "<ItemX/>"]))
            )
    return (
        "<Item>"
        + draw(st.sampled_from(["", "\n ", "\r\n\t"])).join(parts)
        + draw(st.sampled_from(["</Item>"] * 20 + ["</Item >", "", "</Items>"]))
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(records(), min_size=1, max_size=12),
    st.sampled_from(["", "\n  ", "<!-- <Item> -->", "</Items><Items>"]),
    st.integers(0, 3),
)
def test_odd_records_read_the_same_at_both_speeds(rows, between, cut):
    plain = "<Item><ItemCode>7290000000015</ItemCode><ItemName>חלב</ItemName><ItemPrice>6.90</ItemPrice><AllowDiscount>1</AllowDiscount></Item>"
    body = between.join([plain, *rows])
    text = f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items Count='{len(rows) + 1}'>{body}</Items></Root>"
    data = text.encode()
    data = data[: len(data) - 60] if cut == 0 else data
    assert read(data, NAME, ALWAYS) == read(data, NAME, NEVER)


@settings(max_examples=100, deadline=None)
@given(st.text("0123456789a ", max_size=16))
def test_gtins_are_the_same_one_by_one_and_many(code):
    buf, target = np.frombuffer(code.encode() + bytes(8), np.uint8), np.zeros(16, np.uint8)
    end = scan._gtin(buf, 0, len(code.encode()), target, 0)
    assert (target[:end].tobytes().decode() or None) == make_gtin(code)


@given(st.binary(min_size=1, max_size=40))
def test_a_hash_is_the_same_in_both_worlds(code):
    with np.errstate(over="ignore"):
        assert int(scan._hash(np.frombuffer(code + bytes(8), np.uint8), 0, len(code))) == scan.hash_code(code)


def test_the_scan_writes_nowhere_but_in_its_own(tmp_path):
    "Guard bytes behind every array stay as they were, also for records as short as can be."
    shortest = "<I><C>1</C><P>2</P><Other>" + "x" * 26 + "</Other></I>"  # the room is made for 64 bytes a record
    for record in (shortest, shortest.replace("1", "1" * 40), "<I><C>1</C><P>2</P><N>" + "א" * 400 + "</N></I>"):
        template = scan.make_template(record.encode(), b"I", {b"c": scan.CODE, b"p": scan.PRICE, b"n": scan.DESCRIBED})
        scanner = scan.Scanner(template)
        block = (record * 500).encode()
        scanner._make_room(len(block))
        for name, array in list(scanner.out.items()):
            guarded = np.full(array.nbytes + 64, 0xAB, np.uint8)
            guarded[: array.nbytes] = 0
            scanner.out[name] = guarded[: array.nbytes].view(array.dtype)
            scanner.out[name].flags.writeable = True
        scanner.addresses = [array.ctypes.data for array in (*scanner.inputs.values(), *scanner.out.values())]
        found = scanner.scan(block)
        assert found is not None and len(found.prices) == 500
        for name, array in scanner.out.items():
            assert (array.base[array.nbytes :] == 0xAB).all(), name


@pytest.mark.parametrize(
    "behind", [b"", b" " * 1000, b"\n" + b"\t " * 70, b"<I><C>77</C>" + b"x" * 1000, b"</I>" * 200, b"<I>" * 200]
)
def test_what_stands_around_a_block_does_not_change_what_is_found(behind):
    record = b"<I>\n         <C>15</C>\n         <P>6.90</P>\n         <N>a&amp;b</N>\n</I>\n"
    template = scan.make_template(record, b"I", {b"c": scan.CODE, b"p": scan.PRICE, b"n": scan.DESCRIBED})
    block = (record * 300).strip()
    found = scan.Scanner(template).scan(b"<List>" + block + behind, 6, 6 + len(block))
    assert found is not None and found.prices.tolist() == [69_000] * 300 and len(found.odd) == 0
    assert bytes(found.codes[0]) == b"15" * 300 and found.plain[-1, 2] == len(block)


def test_descriptions_keep_their_numbers_in_any_order():
    texts = [b"%d\x1f" % n for n in range(2000)]
    record = b"<I><C>15</C><P>6.90</P><N>%s</N><Other>as long as records are</Other></I>"
    template = scan.make_template(record % b"a", b"I", {b"c": scan.CODE, b"p": scan.PRICE, b"n": scan.DESCRIBED})
    memory = scan.Memory()
    scanner = scan.Scanner(template, memory)
    first = scanner.scan(b"".join(record % text[:-1] for text in texts))
    assert (first.numbers < 0).all()
    memory.learn(texts[:1500], first.text_hashes[:1500])
    for order in (range(2000), range(1999, -1, -1), [7, 7, 1600, 3, 0, 1499, 1500]):
        found = scanner.scan(b"".join(record % texts[n][:-1] for n in order))
        assert found.numbers.tolist() == [n if n < 1500 else -1 for n in order]


def test_codes_that_come_twice_are_found_across_blocks(tmp_path):
    path = tmp_path / NAME
    make_price_file(path, 6)
    text = path.read_text(encoding="utf-8-sig")
    first, last = text.index("<Item>"), text.rindex("<Item>")
    one, other = text[first : text.index("</Item>") + 7], text[last : text.rindex("</Item>") + 7]
    dearer = one.replace("<ItemPrice>", "<ItemPrice>1").replace("03:41", "04:41")
    path.write_text(text.replace("</Items>", one + dearer + other + "</Items>"), encoding="utf-8-sig")
    ledger = write_feed(path, tmp_path / "out")
    assert ledger["duplicates"] == 2 and ledger["rejected"] == {"conflicting_duplicate": 1}
    assert ledger["rows_in"] == ledger["accepted"] + 3


@pytest.mark.parametrize("packed", ["plain", "gz", "zip"])
def test_memory_does_not_grow_with_the_file(tmp_path, packed):
    "Eighty megabytes take no more than twenty and a little; a reader that holds the file would need four times as much again."
    import gzip

    peaks = []
    for size in (20, 80):
        path = tmp_path / NAME
        make_price_file(path, size)
        if packed == "gz":
            path.write_bytes(gzip.compress(path.read_bytes(), 1))
        elif packed == "zip":
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr("x.xml", path.read_bytes())
            path.write_bytes(out.getvalue())
        code = (
            "import sys, json; from grocery.bench import measure_peak_mb; from grocery.feeds.check import write_feed;"
            "l = write_feed(sys.argv[1], sys.argv[2]);"
            "print(json.dumps([l['accepted'], l['rows_in'], measure_peak_mb()]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(tmp_path / f"out{size}")],
            capture_output=True,
            text=True,
            check=True,
        )
        accepted, rows, peak = json.loads(done.stdout)
        assert accepted == rows > 20_000
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 45 and peaks[1] < 300, peaks


def test_pieces_of_any_size_make_the_same_feed(monkeypatch):
    "Where the chunks of a file end does not matter."
    from grocery.feeds import check

    rows = "".join(
        f"<Item><ItemCode>{n + 100}</ItemCode><ItemName>חלב {n}</ItemName><ItemPrice>{n + 1}.5</ItemPrice></Item>"
        for n in range(40)
    )
    data = f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items Count='40'>{rows}</Items></Root>".encode()
    whole = read_feed(data, NAME)
    dice = random.Random(5)
    for _ in range(25):
        size = dice.randint(1, 400)
        chunks = [data[i : i + size] for i in range(0, len(data), size)]
        ledger, tables = check._read(check._Bytes(lambda chunks=chunks: chunks, NAME), check._Memory())
        assert ledger | {"file": NAME} == whole.ledger
        assert {k: t.to_pylist() for k, t in tables.items()} == {k: t.to_pylist() for k, t in whole.tables.items()}


def test_columns_of_dates_are_dates_one_by_one():
    "Two ways to Israel's clock, compared in every hour around every change and at random."
    from datetime import UTC, datetime

    from grocery.feeds.clean import _clock_changes, _instants, parse_date

    hours, _ = _clock_changes()
    assert len(hours) > 150
    dice = random.Random(3)
    local = [dice.randrange(10 * 366 * 86_400, 90 * 365 * 86_400) for _ in range(5_000)]
    local += [int(hour) * 3600 + minutes * 60 for hour in hours[1:] for minutes in range(-150, 151, 30)]
    for seconds, instant in zip(local, _instants(np.array(local)).to_pylist(), strict=True):
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
        assert instant == parse_date(text)[0], text


def test_threads_do_not_mix_their_descriptions():
    from concurrent.futures import ThreadPoolExecutor

    def feed(thread: int) -> bytes:
        rows = "".join(
            f"<Item><ItemCode>{n + 100}</ItemCode><ItemName>t{thread} item {n}</ItemName><ItemPrice>5.5</ItemPrice></Item>"
            for n in range(2_000)
        )
        return f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items>{rows}</Items></Root>".encode()

    def names(thread: int) -> bool:
        tables = read_feed(feed(thread), NAME).tables
        return all(name.startswith(f"t{thread} ") for name in tables["items"]["item_name"].to_pylist())

    before, parse.SCAN_FROM = parse.SCAN_FROM, ALWAYS
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(names, [1, 2, 3, 4] * 3))
    finally:
        parse.SCAN_FROM = before


def test_a_refused_block_says_nothing_of_the_one_before():
    odd = "<Item><ItemCode>15</ItemCode><ItemName a='1'>x</ItemName><ItemPrice>5</ItemPrice></Item>"
    plain = "<Item><ItemCode>15</ItemCode><ItemName>x</ItemName><ItemPrice>5</ItemPrice></Item>"
    template = scan.make_template(plain.encode(), b"Item", {b"itemcode": scan.CODE, b"itemprice": scan.PRICE})
    scanner = scan.Scanner(template)
    assert len(scanner.scan((odd * 5).encode()).odd) == 5
    assert scanner.scan((plain * 2 + "</Items><Items>" + plain * 2).encode()) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "[1]"])
def test_damaged_machine_code_is_made_anew(tmp_path, damage, monkeypatch):
    import shutil

    whole = scan._cache_file()
    scan.can_scan()
    (tmp_path / "grocery").mkdir(mode=0o700)
    data = bytearray(whole.read_bytes())
    data[-200] ^= 1
    bad = {"cut": whole.read_bytes()[:-200], "empty": b"", "flipped": bytes(data), "[1]": b"[1]\nx"}[damage]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = scan._cache_file()
    path.write_bytes(bad)
    with pytest.raises((ValueError, KeyError, TypeError)):
        scan._load(path)
    shutil.copy(whole, path)
    assert scan._load(path)
