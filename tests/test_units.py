"Units: no input breaks the parsers, and real feeds keep the shares that were measured."

import csv
import gzip
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grocery.units import (
    find_unknown_units,
    make_net_quantity,
    parse_name_quantity,
    parse_quantity,
    parse_unit,
    unit_price_ils,
)

WORDS = st.sampled_from(
    [
        "גרם",
        'ק"ג',
        "מ״ל",
        "ליטר",
        "יח'",
        "100 ",
        "1",
        "0000",
        "*",
        ".",
        ",",
        " ",
        "-",
        "x",
        "ל-",
        "kg",
        "\n",
        "²",
        "٣",
        "\x00",
        "קולה",
    ]
)
TEXT = st.one_of(st.none(), st.text(max_size=30), st.lists(WORDS, max_size=8).map("".join))
UNITS = {"g", "ml", "piece", None}


@given(TEXT)
@example("100 גרם")
@example("9" * 400)
def test_unit_is_known_or_none(text):
    unit, factor = parse_unit(text)
    assert unit in UNITS and 0 <= factor < 1e13


@given(TEXT)
@example("9" * 400 + ".5")
def test_quantity_is_positive_or_none(text):
    value = parse_quantity(text)
    assert value is None or 0 < value < 1e9


@settings(max_examples=300)
@given(TEXT, TEXT, TEXT, TEXT, st.sampled_from([None, True, False, "0", "1", "", "true"]))
def test_net_quantity_is_positive_with_a_unit_or_nothing(unit_qty, quantity, unit_of_measure, name, is_weighted):
    value, unit = make_net_quantity(unit_qty, quantity, unit_of_measure, name, is_weighted)
    assert unit in UNITS and (value is None or (value > 0 and unit is not None))
    assert unit_price_ils(10, value, unit) is None or unit_price_ils(10, value, unit) > 0


@given(st.integers(2, 24), st.integers(1, 2000), st.sampled_from(["*", " * ", "x", "×"]))
def test_a_pack_is_the_same_whichever_number_comes_first(count, amount, times):
    whole = (float(count * amount), "ml")
    assert parse_name_quantity(f'משקה {count}{times}{amount} מ"ל') == whole
    assert parse_name_quantity(f"משקה {amount} מ'ל{times}{count}") == whole


@pytest.mark.parametrize(
    "text, meaning",
    [
        ("100 גרם  ", ("g", 100.0)),
        ("1קילוגרם", ("g", 1000.0)),
        ("ק״ג", ("g", 1000.0)),
        ('לק"ג', ("g", 1000.0)),
        ('ל  מ"ל', ("ml", 1.0)),
        ("מ``ל", ("ml", 1.0)),
        ("00000000000000000מ'ל", ("ml", 1.0)),
        ("000יחידה,1,000000000", ("piece", 1.0)),
        ("???¨?? 100", ("g", 100.0)),
        ("???????¨ 1", ("ml", 1000.0)),
        ("100.00", (None, 1.0)),
        ("00000000,0,000000000", (None, 1.0)),
        ("מטרים", (None, 1.0)),
        ("Unknown ", (None, 1.0)),
        ("", (None, 1.0)),
        (None, (None, 1.0)),
    ],
)
def test_spellings(text, meaning):
    assert parse_unit(text) == meaning


@pytest.mark.parametrize(
    "fields, net",
    [
        (("קילוגרם", "200", "???¨?? 100", "אורז", "0"), (200.0, "g")),  # one field is a constant
        (("אלף", "1.20", 'ק"ג', "אורז", "0"), (1200.0, "g")),
        (("", "0.00", "100.00", 'קרם 50 מ"ל', "0"), (50.0, "ml")),  # a bare number where a unit should stand
        (("קילוגרם", "1", "1", "זוג מברשות", "0"), (1.0, "piece")),
        (("ליטרים", "1500.00", "100 ליטר", "סבון", "0"), (1500.0, "ml")),
        (("גרמים", "200.00", "100 גרם", "יוגורט 20 גרם חלבון", "0"), (200.0, "g")),  # the name counts protein
        (("גרם", "500", "100 גרם", "פסטה 12*500גרם", "0"), (500.0, "g")),  # the name counts the case
        (("יחידה", "1", "יחידה", "ביצים 12 L", "0"), (1.0, "piece")),
        (("יחידות", "16.00", "יחידות", "תחבושות 16 יח'", "0"), (16.0, "piece")),
        (('מ"ל', "2.7", '100 מ"ל', "כביסה 2.7 ליטר", "0"), (2700.0, "ml")),
        (("ליטרים", "0.02", "ליטר", "גל 5 ל", "0"), (5000.0, "ml")),
        (("גרמים", "50000.00", "100 גרם", "פסטה 500 ג", "0"), (500.0, "g")),
        (("קילוגרם", "24", "???????????× 1", "כוסות 24 יח", "0"), (24.0, "piece")),
        (("'יח", "7", "ל-100 גרם", "רוטב 700 גרם", "0"), (700.0, "g")),
        (("'יח", "8", "ל-100 גרם", "פפריקה 80 גרם", "0"), (80.0, "g")),
        ((None, None, None, None, None), (None, None)),
        ((None, None, None, "x", "1"), (1000.0, "g")),
    ],
)
def test_fields_that_contradict_each_other(fields, net):
    assert make_net_quantity(*fields) == net


def _rows(realdata):
    for file in sorted((realdata / "parsed").glob("*/prices/*.csv")):
        for row in csv.DictReader(file.open(encoding="utf-8-sig", newline="")):
            yield row["code"], row["unit_qty"], row["quantity"], row["unit_of_measure"], row["name"], row["weighted"]
    for file in sorted((realdata / "history").glob("daily*/*prices*.csv.gz"))[:1]:
        for row in csv.DictReader(io.TextIOWrapper(gzip.open(file), encoding="utf-8-sig", newline="")):
            yield row["ברקוד"], row["יחידת כמות"], row["כמות"], row["יחידת מידה"], row["שם מוצר"], row["שקיל"]


@pytest.mark.realdata
def test_every_real_spelling_is_explained_and_most_rows_get_a_quantity(realdata):
    rows = list(_rows(realdata))
    assert len(rows) > 150_000
    assert find_unknown_units([unit for row in rows for unit in (row[1], row[3])]) == []
    resolved = sum(make_net_quantity(*row[1:])[0] is not None for row in rows)
    assert resolved / len(rows) > 0.93


@pytest.mark.realdata
def test_what_names_tell_agrees_with_what_other_chains_publish(realdata):
    "Items published as one piece: where the name gave grams, another chain's published grams for the barcode are the same."
    published, told = {}, {}
    for code, *fields, name, weighted in _rows(realdata):
        if len(code) < 11 or weighted in ("1", "true"):
            continue
        value, unit = make_net_quantity(*fields)
        if unit in ("g", "ml") and value:
            published[code] = value
        elif make_net_quantity(*fields, name)[1] in ("g", "ml"):
            told[code] = make_net_quantity(*fields, name)[0]
    both = published.keys() & told.keys()
    assert len(both) > 3000
    assert sum(abs(told[c] / published[c] - 1) < 0.03 for c in both if told[c]) / len(both) > 0.88
