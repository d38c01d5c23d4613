"CSV: whatever happens to some rows, every row is accounted for and the others are read as they were written."

import csv
import gzip
import io
import random
import time
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grocery.errors import GroceryError
from grocery.feeds.table import MAPPINGS, RECORD_FIELDS, find_mapping, parse_csv

PRICES = list(MAPPINGS["daily_2026_08"].columns)
PROMOTIONS = list(MAPPINGS["daily_2026_08_promos"].columns)
STORES = list(MAPPINGS["olivierh_2022_stores"].columns)
NAME = "israeli_prices_2026-08-09.csv"


def _row(code: int, name: str = "חלב 3%", price: str = "6.90") -> list[str]:
    return [
        "רשת",
        "7290000000001",
        "413",
        str(7290000000000 + code),
        name,
        "יצרן",
        "IL",
        "1.00",
        "1ליטר",
        "ליטר",
        price,
        price,
        "0",
        "1",
        "1",
        "",
        "",
    ]


def _line(fields: list[str], delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n").writerow(fields)
    return out.getvalue().removesuffix("\r\n")


def _table(lines: list[str], newline: str = "\n") -> str:
    return newline.join([_line(PRICES), *lines]) + newline


DAMAGES = {
    "short": lambda f: ",".join(f[:9]),
    "one field": lambda f: f[3],
    "long": lambda f: ",".join([*f, "x", "y"]),
    "empty fields too many": lambda f: ",".join([*f, "", ""]),
    "unclosed quote": lambda f: ",".join([*f[:4], '"' + f[4], *f[5:]]),
    "unclosed quote at the start": lambda f: '"' + ",".join(f),
    "unclosed quote at the end": lambda f: ",".join(f[:-1]) + ',"',
    "quote not doubled": lambda f: ",".join([*f[:4], '"סבון 500 מ"ל"', *f[5:]]),
    "quote within": lambda f: ",".join([*f[:4], '30ס"מ', *f[5:]]),
    "two stray quotes": lambda f: ",".join([*f[:4], '"a', '"b', *f[6:]]),
    "delimiter not quoted": lambda f: ",".join([*f[:4], "קפה, טחון", *f[5:]]),
    "NUL": lambda f: ",".join([*f[:4], f[4] + "\0\0", *f[5:]]),
    "only NULs": lambda f: "\0" * 40,
    "words in quotes": lambda f: '"x" "y"',
    "header again": lambda f: _line(PRICES),
    "noise": lambda f: "<html>&amp;</html>",
}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["good", "good", "good", "break", *DAMAGES]), max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
@example(["unclosed quote", "good", "quote within", "good"], "\n", False)
@example(["unclosed quote", "unclosed quote", "break", "good"], "\n", False)
@example(["unclosed quote at the end", "break", "good"], "\r\n", True)
def test_every_row_is_accounted_for_and_good_rows_are_read(kinds, newline, is_cut):
    lines, good = [], []
    for n, kind in enumerate(kinds):
        fields = _row(n, {"break": "שורה\nשנייה", "good": 'חלב "טרי", 3%'}.get(kind, "חלב 3%"))
        lines.append(DAMAGES[kind](fields) if kind in DAMAGES else _line(fields))
        if kind not in DAMAGES:
            good.append((fields[3], fields[4], fields[10]))
    text = _table([line.replace("\n", newline) for line in lines], newline)
    parsed = parse_csv((text[: -len(newline)] if is_cut else text).encode(), file_name=NAME)
    assert parsed.rows_in == len(kinds)
    assert sorted([*parsed.rows, *(m.row for m in parsed.malformed)]) == list(range(1, len(kinds) + 1))
    read = [(r["itemcode"], r["itemname"], r["itemprice"]) for r in parsed.records]
    assert [row for row in read if row in good] == good
    assert all(price in ("6.90", "") for _, _, price in read)  # no column slid into another
    for row in parsed.malformed:
        assert row.raw == lines[row.row - 1].replace(newline, "\n") and row.why


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([None, *MAPPINGS]))
@example(b"\x1f\x8b\x08", None)
@example(b"\xff\xfe\x00", "daily_2026_08")
def test_bytes_never_raise(data, mapping):
    for content in (data, _table([_line(_row(1))]).encode() + data):
        parsed = parse_csv(content, mapping=mapping, file_name=NAME)
        assert bool(parsed.kind) == bool(parsed.mapping)
        assert not any("\ufffd" in text for record in parsed.records for text in record.values())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("abאב\",;\n\r\0' "), max_size=12), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_what_a_writer_writes_is_read_back(names, delimiter):
    "Proper CSV is never touched by recovery, unless a field holds NULs."
    rows = [_row(n, name) for n, name in enumerate(names)]
    text = "\n".join(_line(fields, delimiter) for fields in [PRICES, *rows])
    parsed = parse_csv(text.encode(), file_name=NAME)
    tidy = [name.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "") for name in names]
    assert parsed.delimiter == delimiter
    assert parsed.rows_in >= len(names) if any("\n" in n for n in tidy) else parsed.rows_in == len(names)
    if not any("\0" in name for name in names):
        assert [r["itemname"] for r in parsed.records] == tidy and not parsed.malformed


@pytest.mark.parametrize(
    "encoding, name",
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("cp1255", "windows-1255"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ],
)
def test_encodings(encoding, name):
    parsed = parse_csv(_table([_line(_row(n)) for n in range(5)]).encode(encoding), file_name=NAME)
    assert parsed.encoding == name and [r["itemname"] for r in parsed.records] == ["חלב 3%"] * 5


def test_a_byte_that_windows_1255_leaves_undefined_is_kept():
    data = _table([_line(_row(1, "חלב@3%")), _line(_row(2))]).encode("cp1255").replace(b"@", b"\xd9")
    parsed = parse_csv(data, file_name=NAME)
    assert parsed.encoding == "windows-1255"
    assert parsed.records[0]["itemname"] == "חלב\xd93%" and parsed.records[1]["itemname"] == "חלב 3%"


def test_one_wrong_byte_does_not_decide_for_the_file():
    data = _table([_line(_row(n, "חלב@")) for n in range(20)]).encode().replace(b"@", b"\xe0", 1).replace(b"@", b"")
    parsed = parse_csv(data, file_name=NAME)
    assert parsed.encoding == "utf-8" and [r["itemname"] for r in parsed.records] == ["חלבא"] + ["חלב"] * 19


def test_quote_that_never_closes_costs_one_row():
    lines = [_line(_row(n)) for n in range(1000)]
    lines[10] = '"' + lines[10]
    parsed = parse_csv(_table(lines).encode(), file_name=NAME)
    assert parsed.rows_in == 1000 and len(parsed.records) >= 999


def test_truncated_gzip_says_so_and_sets_the_half_row_aside():
    random.seed(1)
    rows = [_line(_row(n, f"מוצר {random.random()}", f"{random.random():.2f}")) for n in range(3000)]
    packed = gzip.compress(_table(rows).encode())
    parsed = parse_csv(packed[: len(packed) // 2], file_name=NAME + ".gz")
    assert not parsed.complete and any("end early" in p for p in parsed.problems)
    assert 500 < len(parsed.records) < 3000 and len(parsed.malformed) == 1
    whole = parse_csv(packed, file_name=NAME + ".gz")
    assert whole.complete and parsed.records == whole.records[: len(parsed.records)]


def test_a_row_cut_in_its_last_field_is_no_record():
    text = _line(STORES) + "\n1,7,1,מרכז,הרצל 5,עיר,1234567\n2,7,1,צפון,הים 1,עיר,765"
    parsed = parse_csv(gzip.compress(text.encode())[:-8], file_name="7290000000001_1.csv")
    assert [r["storeid"] for r in parsed.records] == ["1"]
    assert [(m.row, m.why) for m in parsed.malformed] == [(2, "the bytes end inside this row")]


@pytest.mark.parametrize(
    "line, address",
    [
        ("1,7,1,מרכז,הרצל 5,עיר,1234567,,", "הרצל 5"),  # empty fields too many
        ("1,7,1,מרכז,רחוב, בית 6,עיר,", None),  # a comma in the name or in the address: nobody can tell
        ("1,7,1,מרכז,רחוב, בית 6,,", None),
        ("1,7,1,מרכז,רחוב,בית 6,עיר,", None),
        ("1,7,1,מרכז,הרצל 5,עיר", None),
    ],
)
def test_a_row_is_mended_only_if_one_way_fits(line, address):
    parsed = parse_csv(f"{_line(STORES)}\n{line}\n".encode(), file_name="7290000000001_1.csv")
    assert [r["address"] for r in parsed.records] == ([address] if address else []) and parsed.rows_in == 1


def test_an_unquoted_delimiter_is_put_back_where_numbers_prove_it():
    row = "רשת,7290000000001,413,7290000000015,77,שני, שלישי ב-10,2031-01-01,1,10.00,,0,0,1"
    parsed = parse_csv(f"{_line(PROMOTIONS)}\n{row}\n".encode(), file_name=NAME)
    assert [r["promotiondescription"] for r in parsed.records] == ["שני, שלישי ב-10"]
    assert parsed.records[0]["discountedprice"] == "10.00"


def test_mapping_is_found_or_named():
    table = _table([_line(_row(1))]).encode()
    assert find_mapping(PROMOTIONS) == "daily_2026_08_promos" and find_mapping(["a", "b"]) is None
    assert (
        parse_csv(table, mapping="daily_2026_08", file_name=NAME).records == parse_csv(table, file_name="x.csv").records
    )
    assert parse_csv(b"a,b\n1,2\n", file_name="x.csv").kind == ""
    with pytest.raises(GroceryError, match="daily_2026_08"):
        parse_csv(table, mapping="daily_2026_80")


def test_a_promotions_table_under_the_prices_mapping_is_not_read_as_prices():
    parsed = parse_csv((_line(PROMOTIONS) + "\n").encode(), mapping="daily_2026_08", file_name=NAME)
    assert parsed.kind == "" and parsed.problems


def test_columns_in_another_order_and_a_table_without_header():
    row = dict(zip(PRICES, _row(1), strict=True))
    order = PRICES[::-1]
    turned = parse_csv("\n".join([_line(order), _line([row[c] for c in order])]).encode(), file_name=NAME)
    bare = parse_csv(_line(_row(1)).encode(), mapping="daily_2026_08", file_name=NAME)
    assert turned.records == bare.records and len(bare.records) == 1
    assert list(bare.records[0]) == RECORD_FIELDS["Price"]


def test_names_of_files_tell_day_chain_and_store():
    table = _table([_line(_row(1))]).encode()
    summer, winter = (
        parse_csv(table, file_name=f"a/israeli_prices_{day}.csv.gz").published_at
        for day in ("2026-08-09", "2026-01-09")
    )
    assert summer == datetime(2026, 8, 8, 21, tzinfo=UTC) and winter == datetime(2026, 1, 8, 22, tzinfo=UTC)
    assert parse_csv(table, file_name="prices_2026-13-40.csv").published_at is None
    stores = parse_csv((_line(STORES) + "\n1,7,1,מרכז,הרצל 5,עיר,\n").encode(), file_name="7290000000001_18.csv")
    assert (stores.kind, stores.records[0]["chainid"], stores.records[0]["subchainid"]) == (
        "Stores",
        "7290000000001",
        "18",
    )


def test_damage_everywhere_stays_linear():
    lines = [_line(_row(n)).replace("חלב", '"חלב') for n in range(6000)]
    begin = time.process_time()
    parsed = parse_csv(_table(lines).encode(), file_name=NAME)
    assert len(parsed.records) == 6000 and time.process_time() - begin < 5


def _independent(data: bytes) -> list[dict]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


@pytest.mark.realdata
def test_real_tables_equal_an_independent_reader(realdata):
    files = [
        *sorted((realdata / "history").glob("daily_*/*.csv.gz"))[::9],
        *sorted((realdata / "parsed").glob("*/*/*.csv")),
    ]
    assert len(files) > 60
    for file in files:
        data = file.read_bytes()
        parsed = parse_csv(data, file_name=file.name)
        rows = _independent(gzip.decompress(data) if file.suffix == ".gz" else data)
        columns = MAPPINGS[parsed.mapping].columns
        assert len(parsed.records) == len(rows) and not parsed.malformed and parsed.published_at, file.name
        for record, row in zip(parsed.records, rows, strict=True):
            for column, name in columns.items():
                if name and name not in MAPPINGS[parsed.mapping].values:
                    assert record[name] == row[column].replace("\r\n", "\n")


@pytest.mark.realdata
def test_seeded_damage_to_a_real_table_costs_only_damaged_rows(realdata):
    file = sorted((realdata / "history").glob("daily_*/*prices*.csv.gz"))[0]
    header, *lines = gzip.decompress(file.read_bytes()).decode("utf-8-sig").splitlines()
    lines = lines[:20_000]
    codes = [next(csv.reader([line]))[3] for line in lines]
    chosen = random.Random(7).sample(range(len(lines)), 400)
    damages = list(DAMAGES.values())
    for n, row in enumerate(chosen):
        lines[row] = damages[n % len(damages)](next(csv.reader([lines[row]])))
    parsed = parse_csv("\n".join([header, *lines]).encode("cp1255", "ignore"), file_name=file.name)
    assert parsed.encoding == "windows-1255" and parsed.rows_in == len(lines)
    read = dict(zip(parsed.rows, parsed.records, strict=True))
    damaged = {row + 1 for row in chosen}
    assert all(n in damaged or (n in read and read[n]["itemcode"] == code) for n, code in enumerate(codes, 1))
    assert {m.row for m in parsed.malformed} <= damaged
    assert sum(n in read for n in damaged) > 0.4 * len(damaged)
