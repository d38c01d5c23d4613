"""The reader must lose nothing: real files against an independent count, and damage of every kind."""

import gzip
import io
import json
import re
import xml.parsers.expat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.feeds.check import check_file, read_feed
from grocery.feeds.clean import make_gtin, parse_date
from grocery.feeds.names import make_store_id, parse_name
from grocery.feeds.parse import parse_xml
from grocery.feeds.read import Said, decode, read_text
from grocery.tables import REASONS

ITEM = (
    "<Item><PriceUpdateDate>2026-03-01 06:00</PriceUpdateDate><ItemCode>{code}</ItemCode><ItemName>{name}</ItemName>"
    "<ItemPrice>{price}</ItemPrice><AllowDiscount>1</AllowDiscount></Item>"
)
NAME = "PriceFull7290000000001-001-202603010341.gz"


def make_feed(items: int = 20, **changes) -> str:
    rows = [
        ITEM.format(**{"code": 100 + n, "name": f"חלב {n}%", "price": f"{5 + n}.90"} | changes) for n in range(items)
    ]
    return (
        f"<Root><ChainId>7290000000001</ChainId><SubChainId>1</SubChainId><StoreId>1</StoreId>"
        f"<Items Count='{items}'>{''.join(rows)}</Items></Root>"
    )


def adds_up(ledger: dict) -> bool:
    return ledger["rows_in"] == ledger["accepted"] + sum(ledger["rejected"].values()) + ledger["duplicates"]


def count_records(data: bytes) -> int:
    "Count records without any code of the library: expat over text decoded by hand."
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data[:2] == b"\xff\xfe":
        text = data.decode("utf-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1255")
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    stack, counts = [], {}

    def start(tag, _):
        stack.append(tag.lower())
        if len(stack) > 1:
            counts[tag.lower()] = counts.get(tag.lower(), 0) + 1

    parser = xml.parsers.expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.Parse(text.encode(), True)
    for tag in ("promotion", "sale", "branch", "line", "product", "item", "store"):
        if counts.get(tag):
            return counts[tag]
    return 0


@pytest.mark.realdata
def test_every_real_file_is_read_whole(realdata):
    files = sorted(p for p in (realdata / "feeds").rglob("*") if p.is_file())
    assert len(files) > 50
    for path in files:
        feed = read_feed(path.read_bytes(), path.name)
        ledger = feed.ledger
        assert ledger["rows_in"] == count_records(path.read_bytes()), path.name
        assert adds_up(ledger) and ledger["complete"], (path.name, ledger)
        assert feed.is_feed, path.name
        for name, table in feed.tables.items():
            for column in table.column_names:
                if column.endswith("name"):
                    assert not any("\ufffd" in (v or "") for v in table[column].to_pylist()), (path.name, name, column)


@pytest.mark.realdata
def test_real_prices_are_what_the_bytes_say(realdata):
    "Every accepted price equals the text beside its code, read by a plain regular expression."
    seen = 0
    for path in sorted((realdata / "feeds").rglob("PriceFull*")):
        data = path.read_bytes()
        text = b"".join(read_text([data], Said())).decode()
        pairs = re.findall(
            r"<ItemCode>\s*([^<]*?)\s*</ItemCode>.*?<ItemPrice>\s*([^<]*?)\s*</ItemPrice>", text, re.DOTALL
        )
        published = {}
        for code, price in pairs:
            published.setdefault(code, set()).add(float(price or 0))
        prices = read_feed(data, path.name).tables["prices"]
        for code, price in zip(prices["item_code"].to_pylist(), prices["price_ils"].to_pylist(), strict=True):
            assert float(price) in published[code], (path.name, code)
        seen += prices.num_rows
    assert seen > 50_000


def test_a_truncated_gzip_is_salvaged_and_said_so():
    whole = gzip.compress(make_feed(400).encode())
    feed = read_feed(whole[: len(whole) // 2], NAME)
    assert not feed.ledger["complete"] and adds_up(feed.ledger)
    assert 0 < feed.ledger["accepted"] < 400 and feed.ledger["declared_count"] == 400
    assert any("early" in p for p in feed.ledger["problems"])
    assert any("declared" in p for p in feed.ledger["problems"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1255"]))
def test_any_cut_of_any_encoding_adds_up(where, encoding):
    data = make_feed(12).encode(encoding)
    data = data[: where % len(data)]
    feed = read_feed(data, NAME)
    assert adds_up(feed.ledger)
    assert not feed.ledger["complete"] or feed.ledger["accepted"] == 12
    text = b"".join(decode([data], Said())).decode()
    assert feed.ledger["rows_in"] in (0, text.count("<Item>"), text.count("<Item"))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=25))
def test_flipped_bytes_never_raise_and_never_lose_a_row_silently(flips):
    data = bytearray(make_feed(15).encode())
    for where, value in flips:
        data[where % len(data)] = value
    ledger = read_feed(bytes(data), NAME).ledger
    assert adds_up(ledger)
    assert all(reason in REASONS for reason in ledger["rejected"])
    if ledger["rows_in"] < 15:
        assert ledger["problems"] or not ledger["complete"]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_no_feed(data):
    for prefix in (b"", b"\x1f\x8b\x08", b"PK\x03\x04", b"<", b"\xff\xfe<\0"):
        ledger = read_feed(prefix + data, "PriceFull7290000000001-001-202603010341.gz").ledger
        assert adds_up(ledger)
        json.dumps(ledger, default=str)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1255"])
@pytest.mark.parametrize("declared", ["", "utf-8", "ISO-8859-8", "windows-1255"])
@pytest.mark.parametrize("packed", ["plain", "gz", "zip"])
def test_bytes_decide_not_declarations(encoding, declared, packed):
    text = (f'<?xml version="1.0" encoding="{declared}"?>' if declared else "") + make_feed(3)
    data = text.encode(encoding)
    if packed == "gz":
        data = gzip.compress(data)
    elif packed == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inside.xml", data)
        data = out.getvalue()
    feed = read_feed(data, NAME)
    assert feed.tables["items"]["item_name"].to_pylist() == ["חלב 0%", "חלב 1%", "חלב 2%"]
    assert feed.ledger["compression"] == packed and feed.ledger["complete"]


def test_one_wrong_byte_does_not_change_the_other_names():
    data = make_feed(30).encode().replace("חלב 7%".encode(), b"\xff" + "חלב 7%".encode())
    names = read_feed(data, NAME).tables["items"]["item_name"].to_pylist()
    assert sum(name == f"חלב {n}%" for n, name in enumerate(names)) == 29
    assert not any("\ufffd" in name for name in names)


@pytest.mark.parametrize(
    ("broken", "name"),
    [("שמן & חומץ", "שמן & חומץ"), ("לחם\x0bאחיד", "לחם אחיד"), ("קפה &nbsp; טורקי", "קפה &nbsp; טורקי")],
)
def test_text_that_is_not_well_formed_is_mended(broken, name):
    feed = read_feed(make_feed(2, name=broken).encode(), NAME)
    assert feed.tables["items"]["item_name"][0].as_py() == name
    assert feed.ledger["problems"] and feed.ledger["accepted"] == 2


def test_bombs_and_entities_are_refused_small(tmp_path):
    bomb = gzip.compress(b"<Root>" + bytes(200 << 20), 9)
    laughs = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><Root><Item><ItemPrice>&c;</ItemPrice></Item></Root>'
    outside = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><Root><Item><ItemName>&b;</ItemName></Item></Root>'
    for data in (bomb, laughs.encode(), outside.encode()):
        ledger = read_feed(data, NAME).ledger
        assert ledger["accepted"] == 0 and not ledger["complete"]
        assert any("refused" in p for p in ledger["problems"])


def test_deep_nesting_is_survived():
    deep = "<Root><Items>" + "<a>" * 5000 + "</a>" * 5000 + ITEM.format(code=1, name="x", price=1) + "</Items></Root>"
    assert adds_up(read_feed(deep.encode(), NAME).ledger)


def test_every_reason_is_given_for_its_fault():
    faults = {
        "missing_code": {"code": "0000"},
        "bad_code": {"code": "a b"},
        "missing_price": {"price": ""},
        "bad_price": {"price": "12x"},
        "price_not_positive": {"price": "0.00"},
        "price_placeholder": {"price": "99999.90"},
    }
    for reason, fault in faults.items():
        assert read_feed(make_feed(1, **fault).encode(), NAME).ledger["rejected"] == {reason: 1}
    twice = make_feed(1, code=5).replace("</Items>", ITEM.format(code=5, name="x", price="9.90") + "</Items>")
    assert read_feed(twice.encode(), NAME).ledger["rejected"] == {"conflicting_duplicate": 1}
    nowhere = re.sub("<(ChainId|StoreId)>.*?</\\1>", "", make_feed(1))
    assert read_feed(nowhere.encode(), "x.xml").ledger["rejected"] == {"missing_store": 1}


def test_the_inside_wins_over_the_name():
    ledger = read_feed(make_feed().encode(), "PriceFull7290999999999-077-202603010341.gz").ledger
    assert (ledger["chain_id"], ledger["store_id"]) == ("7290000000001", "001")


@given(st.from_regex(r"[0-9]{7,13}", fullmatch=True))
def test_gtin_is_recognised_by_its_check_digit(body):
    digits = body.zfill(13)
    check = (10 - sum(int(d) * (3 if n % 2 == 0 else 1) for n, d in enumerate(digits)) % 10) % 10
    own = digits[0] == "0" and (digits[1] == "2" or digits[1:3] in ("02", "04"))
    long_enough = len((body + str(check)).lstrip("0")) > 7
    assert (make_gtin(body + str(check)) is not None) == (long_enough and not own)
    assert make_gtin(body + str((check + 1) % 10)) is None


def test_israel_changes_its_clock():
    assert parse_date("2026-03-26 12:00")[0].hour == 10  # winter: UTC+2
    assert parse_date("2026-03-28 12:00")[0].hour == 9  # summer: UTC+3
    assert parse_date("2026-10-25 12:00")[0].hour == 10


@given(st.text(max_size=40))
def test_names_and_dates_never_raise(text):
    parse_name(text)
    parse_date(text)
    make_store_id(text)
    parse_xml(text)


def test_checking_changes_nothing(tmp_path: Path):
    path = tmp_path / NAME
    path.write_bytes(gzip.compress(make_feed().encode()))
    before = path.read_bytes()
    first, second = check_file(path), check_file(path)
    assert first == second and path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "record",
    [
        "<Line><ItemCode>15</ItemCode><PromotionDetails><PromotionId>9</PromotionId><RewardType>1</RewardType></PromotionDetails></Line>",
        "<Line><PromotionDetails><PromotionId>9</PromotionId><ItemCode>15</ItemCode><RewardType>1</RewardType></PromotionDetails></Line>",
        "<Sale><ItemCode>15</ItemCode><PromotionID>9</PromotionID><RewardType>1</RewardType></Sale>",
        "<Promotion><PromotionId>9</PromotionId><RewardType>1</RewardType><PromotionItems><Item><ItemCode>15</ItemCode></Item></PromotionItems></Promotion>",
        "<Promotion><RewardType>1</RewardType><PromotionItems><ItemCode>15</ItemCode></PromotionItems><PromotionId>9</PromotionId></Promotion>",
        "<PROMOTION><PROMOTIONID>9</PROMOTIONID><PROMOTIONITEMS><ITEM><ITEMCODE>15</ITEMCODE><REWARDTYPE>1</REWARDTYPE></ITEM></PROMOTIONITEMS></PROMOTION>",
    ],
)
def test_a_promotion_is_found_however_its_item_is_nested(record):
    text = f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><List>{record}</List></Root>"
    feed = read_feed(text.encode(), "PromoFull7290000000001-001-202603010341.xml")
    assert feed.ledger["accepted"] == feed.ledger["rows_in"] == 1
    (promotion,), (item,) = feed.tables["promotions"].to_pylist(), feed.tables["promotion_items"].to_pylist()
    assert (promotion["promotion_id"], promotion["reward_type"]) == ("9", "1")
    assert (item["promotion_id"], item["item_code"]) == ("9", "15")


def test_a_wrong_checksum_is_a_problem_not_a_loss():
    data = bytearray(gzip.compress(make_feed(50).encode()))
    data[-6] ^= 255
    ledger = read_feed(bytes(data), NAME).ledger
    assert ledger["accepted"] == 50 and not ledger["complete"] and "checksum" in ledger["problems"][0]
    two = gzip.compress(make_feed(20).encode()[:900]) + gzip.compress(make_feed(20).encode()[900:])
    assert read_feed(two, NAME).ledger["accepted"] == 20


@pytest.mark.parametrize("comment", ["", "<!-- <Item><ItemPrice>1</ItemPrice></Item> -->", "<!-- x -->" + " " * 3000])
@pytest.mark.parametrize("name", ["a < b", "<3 שוקולד", "x <b", "<![CDATA[מלח & פלפל]]>"])
def test_one_broken_name_costs_at_most_its_own_record(comment, name):
    text = make_feed(40).replace("חלב 11%", name).replace("<Items", f"{comment}<Items") + comment
    ledger = read_feed(text.encode(), NAME).ledger
    assert adds_up(ledger) and ledger["rows_in"] == 40 and ledger["accepted"] >= 39


@pytest.mark.parametrize("extra", ["<!-- x -->", "<Note><![CDATA[<Item>]]></Note>"])
def test_a_price_cut_in_half_is_never_taken_for_a_price(extra):
    text = make_feed(3, price="16.90").replace("<Items", f"{extra}<Items")
    cut = text[: text.rindex("16.90") + 1]
    feed = read_feed(cut.encode(), NAME)
    assert feed.ledger["accepted"] == 2 and feed.ledger["rejected"] == {"truncated_record": 1}


def test_records_that_nobody_recognises_are_counted_and_said():
    rows = "".join(f"<Thing><Sku>{n}</Sku><Cost>1</Cost></Thing>" for n in range(7))
    text = f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items>{rows}</Items></Root>"
    ledger = read_feed(text.encode(), NAME).ledger
    assert ledger["rows_in"] == 7 == sum(ledger["rejected"].values()) and not ledger["complete"]


def test_several_stores_in_one_price_file_stay_apart():
    stores = "".join(
        f"<Branch><StoreId>{n}</StoreId><Items>{ITEM.format(code=7, name='x', price=n)}</Items></Branch>"
        for n in (1, 2)
    )
    feed = read_feed(
        f"<Root><ChainId>7290000000001</ChainId>{stores}</Root>".encode(), "PriceFull7290000000001-000-202603010341.xml"
    )
    assert sorted(
        zip(
            feed.tables["prices"]["store_id"].to_pylist(),
            map(float, feed.tables["prices"]["price_ils"].to_pylist()),
            strict=True,
        )
    ) == [
        ("001", 1.0),
        ("002", 2.0),
    ]


def test_terms_of_a_promotion_that_is_repeated_stay_with_their_items():
    one = "<Promotion><PromotionId>9</PromotionId><DiscountedPrice>{}</DiscountedPrice><PromotionItems><Item><ItemCode>{}</ItemCode></Item></PromotionItems></Promotion>"
    text = f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Promotions>{one.format(10, 11)}{one.format(8, 12)}</Promotions></Root>"
    items = (
        read_feed(text.encode(), "PromoFull7290000000001-001-202603010341.xml").tables["promotion_items"].to_pylist()
    )
    assert {i["item_code"]: float(i["discounted_price_ils"]) for i in items} == {"11": 10.0, "12": 8.0}


def test_a_zip_with_two_files_is_not_whole():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.xml", make_feed(2))
        archive.writestr("b.xml", make_feed(3))
    ledger = read_feed(out.getvalue(), NAME).ledger
    assert ledger["accepted"] == 2 and not ledger["complete"] and "2 files" in ledger["problems"][0]


@pytest.mark.parametrize("text", ["1e3", "1_000", "٣", "12x", "--1", "1.2.3"])
def test_what_only_looks_like_a_number_is_no_price(text):
    assert read_feed(make_feed(1, price=text).encode(), NAME).ledger["rejected"] == {"bad_price": 1}


def test_records_of_another_kind_are_not_lost_silently():
    one = ITEM.format(code=5, name="x", price="9.90")
    for text in (
        make_feed(2).replace(
            "</Items>", "</Items><Promotions><Promotion><PromotionId>9</PromotionId></Promotion></Promotions>"
        ),
        make_feed(2).replace("</Items>", f"</Items><Products>{one.replace('Item>', 'Product>')}</Products>"),
        make_feed(2).replace("</Items>", one.replace("<Item>", "<ITEM>").replace("</Item>", "</ITEM>") + "</Items>"),
    ):
        ledger = read_feed(text.encode(), NAME).ledger
        assert ledger["rows_in"] == 3 and adds_up(ledger) and not ledger["complete"], text[-200:]


def test_one_wrong_byte_decides_nothing_about_later_hebrew():
    plain = "".join(ITEM.format(code=n + 100, name="milk", price="5") for n in range(15_000))
    hebrew = "".join(ITEM.format(code=n + 100_000, name="חלב", price="5") for n in range(3_000))
    head = "<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Items>"
    wrong = ITEM.format(code=7, name="#", price="5").encode().replace(b"#", b"\xff")
    data = (
        head.encode()
        + plain.encode()
        + wrong
        + plain.replace("<ItemCode>", "<ItemCode>9").encode()
        + hebrew.encode()
        + b"</Items></Root>"
    )
    for mark in (b"", b"\xef\xbb\xbf"):
        names = read_feed(mark + data, NAME).tables["items"]["item_name"].to_pylist()
        assert names.count("חלב") == 3_000 and not any("\ufffd" in name for name in names)


def test_a_place_that_is_told_late_is_the_right_place():
    late = make_feed(2).replace("<ChainId>7290000000001</ChainId><SubChainId>1</SubChainId><StoreId>1</StoreId>", "")
    late = late.replace("</Root>", "<ChainId>7290000000001</ChainId><StoreId>7</StoreId></Root>")
    ledger = read_feed(late.encode(), "PriceFull7290999999999-003-202603010341.xml").ledger
    assert (ledger["chain_id"], ledger["store_id"], ledger["accepted"]) == ("7290000000001", "007", 2)
    branches = "".join(
        f"<Branch><Items>{ITEM.format(code=n, name='x', price=n)}</Items><StoreId>{n}</StoreId></Branch>"
        for n in (1, 2, 3)
    )
    feed = read_feed(f"<Root><ChainId>7290000000001</ChainId>{branches}</Root>".encode(), NAME)
    assert feed.ledger["accepted"] == 0 and feed.ledger["rejected"] == {"missing_store": 3}


def test_the_later_terms_of_a_promotion_are_kept():
    one = "<Promotion><PromotionId>9</PromotionId><PromotionUpdateDate>2026-03-0{}</PromotionUpdateDate><PromotionEndDate>2026-04-0{}</PromotionEndDate><PromotionItems><Item><ItemCode>1{}</ItemCode></Item></PromotionItems></Promotion>"
    for order in ((1, 2), (2, 1)):
        text = "".join(one.format(n, n, n) for n in order)
        feed = read_feed(f"<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Promotions>{text}</Promotions></Root>".encode(), "PromoFull7290000000001-001-202603010341.xml")  # fmt: skip
        (promotion,) = feed.tables["promotions"].to_pylist()
        assert promotion["ends_at"].day == 2 and promotion["items"] == 2


def test_counts_of_several_lists_are_added_and_missing_rows_are_told():
    lists = "".join(
        f"<Branch><StoreId>{n}</StoreId><Items Count='{c}'>{ITEM.format(code=7, name='x', price=1)}</Items></Branch>"
        for n, c in ((1, 1), (2, 9))
    )
    ledger = read_feed(f"<Root><ChainId>7290000000001</ChainId>{lists}</Root>".encode(), NAME).ledger
    assert (ledger["declared_count"], ledger["rows_in"], ledger["missing"], ledger["complete"]) == (10, 2, 8, False)
