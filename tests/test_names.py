"What a name tells: rules that hold for any text, spellings that people use, and real names by the thousand."

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.products.names import (
    Attributes,
    find_conflicts,
    find_one_sided,
    fold_name,
    level_name,
    make_attributes,
    parse_pack_count,
    read_glossary,
    read_lexicon,
)
from grocery.products.pairs import make_hard_negatives, make_pairs
from grocery.products.variants import make_variants

PARTS = [
    "חלב",
    "קולה",
    "זירו",
    "ללא",
    "סוכר",
    "ל.סוכר",
    "3%",
    "%9",
    "1.5",
    "6*",
    "x6",
    "ליטר",
    "גר'",
    'ק"ג',
    "שישיית",
    "יח'",
    "L",
    "spf",
    "50",
    "תנובה",
    "1/2",
    "+",
    "(",
    "גוון",
]
NAMES = st.one_of(
    st.text(max_size=45),
    st.lists(st.sampled_from(PARTS), max_size=9).map(" ".join),
    st.lists(st.sampled_from(PARTS), max_size=9).map("".join),
)


# Rules for any text


@settings(max_examples=400, deadline=None)
@given(NAMES)
def test_attributes_keep_their_contract(name):
    said = make_attributes(name)
    assert (said.quantity is None) == (said.unit is None) and said.unit in (None, "g", "ml", "piece")
    assert said.quantity is None or 0 < said.quantity < 1e9
    assert said.pack_count is None or 1 < said.pack_count <= 200
    for several in (said.percents, said.flavours, said.diets, said.grades, said.brands, said.numbers):
        assert list(several) == sorted(set(several))
    assert set(said.flavours) <= set(read_lexicon("flavour").id) and set(said.diets) <= set(read_lexicon("diet").id)
    assert said.brand is None or said.brand in said.brands
    assert all(len(w) > 1 and w == w.lower() for w in said.words)


@settings(max_examples=300, deadline=None)
@given(NAMES, NAMES)
def test_conflicts_and_one_sided_facts_are_mutual_and_none_with_oneself(one, other):
    a, b = make_attributes(one), make_attributes(other)
    assert find_conflicts(a, b) == find_conflicts(b, a) and find_one_sided(a, b) == find_one_sided(b, a)
    assert find_conflicts(a, a) == [] == find_one_sided(a, a)


@given(NAMES)
def test_nothing_said_contradicts_nothing(name):
    assert set(find_conflicts(make_attributes(name), Attributes())) <= {"diet"}


@given(NAMES)
def test_blanks_and_direction_marks_change_nothing(name):
    spaced = "\u200f " + name.replace(" ", "   ") + " \u200e"
    assert make_attributes(spaced) == make_attributes(name)


# Spellings


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("משקה אגסית ללא סוכר", 'משקה אגסית ל"ס'),
        ("משקה אגסית ללא סוכר", "משקה אגסית ל.סוכר"),
        ("משקה אגסית ללא סוכר", "sugar free אגסית משקה"),
        ("ביסקוויט שקדית ללא גלוטן", 'ביסקוויט שקדית לל"ג'),
        ("ביסקוויט שקדית ללא תוספת סוכר", 'ביסקוויט שקדית ללת"ס'),
        ("משקה דגנית דל לקטוז", "משקה דגנית ללא לקטוז"),
        ("קפה גרגירון נטול קפאין", "קפה גרגירון decaf"),
        ("עוגיות אורזית אורגניות", "עוגיות אורזית organic"),
    ],
)
def test_diets_have_many_spellings(one, other):
    a, b = make_attributes(one), make_attributes(other)
    assert a.diets == b.diets != ()


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("משקה קוקה קולה", "brand", "coca_cola"),
        ("Coca-Cola משקה", "brand", "coca_cola"),
        ("חטיף של אסם במבה", "brand", "bamba"),
        ("ספוגית לתנובה", "brand", "tnuva"),
        ("קרם לידיים של ניוואה", "brand", "nivea"),
        ("קרמית מעולה מאד תנוב", "brand", "tnuva"),  # cut off at 20
        ("קרמית תנוב", "brand", None),  # not cut: no guess
        ("מרק ירקות", "brand", None),
        ('סודה 6*330 מ"ל', "each", 330.0),
        ('סודה 330 מ"ל*6', "pack_count", 6),
        ('סודה 330 מ"ל x6', "quantity", 1980.0),
        ("סודה חצי ליטר", "quantity", 500.0),
        ('שקדית 1/2 ק"ג', "quantity", 500.0),
        ("סכיני שקדית 5+1", "pack_count", 6),
        ("שקדית 1/24", "pack_count", 24),
        ("ויטמית B12 כמוסות 60 יח'", "quantity", 60.0),
        ("קפסולית 10 יח' 52 גרם", "pack_count", 10),
        ("רסק שקדית 350 גר`תנובה", "brand", "tnuva"),
        ("רסק שקדית 350 גר`תנובה", "quantity", 350.0),
        ("סודה ארוכה מאוד 24*3", "pack_count", None),  # 20 characters: 24*3 may have been 24*330
        ("ביצים L 12 יח'", "grades", ("size:L",)),
        ("סודה 1.5 L", "grades", ()),
        ("קרם שקדית SPF50+", "grades", ("spf:50",)),
        ("תחליב שקדית שלב 2", "grades", ("stage:2",)),
        ("לק שקדית גוון 04", "grades", ("shade:4",)),
        ("קמח תירס 500 ל.גלוטן", "diets", ("gluten_free",)),
        ("משקה קל ענבית", "diets", ()),
        ("רוטב שקדית צ'ילי מתוק", "flavours", ("sweet_chili",)),
        ("משקה בננה ותות", "flavours", ("banana", "strawberry")),
        ("יוג. אפרסק", "words", ("יוגורט", "אפרסק")),
        ("שקד.ארוזה", "words", ("שקד.", "ארוזה")),
    ],
)
def test_facts(name, field, value):
    assert getattr(make_attributes(name), field) == value


@pytest.mark.parametrize(
    ("one", "other", "conflicts"),
    [
        ("משקה אגסית 1 ליטר", 'משקה אגסית 1000 מ"ל', []),
        ("משקה אגסית זירו", "משקה אגסית ללא סוכר", []),
        ("משקה אגסית זירו", "משקה אגסית דיאט", ["diet"]),
        ("משקה אגסית זירו", "משקה אגסית", ["diet"]),
        (
            "משקה אגסית מעולה ענב",
            "משקה אגסית מעולה ענבים מוגזים זירו",
            [],
        ),  # cut: more than the diet word may be missing
        ("משקה אגסית מעולה ענב", "משקה אגסית מעולה ענב זירו", ["diet"]),  # nothing but the diet word differs
        ("גבינת שמנית 5% 20% מלח", "גבינת שמנית 5%", []),
        ("גבינת שמנית 5% 20% מלח", "גבינת שמנית 9% 20% מלח", ["percent"]),
        ("רוטב 250 מ''ל", "רוטב 270 גרם", []),
        ("רוטב 250 מ''ל", "רוטב 500 גרם", ["quantity"]),
        ("ביצים תריסר", "ביצים 12 יח'", []),
        ("ביצים תריסר", "ביצים 10 יח'", ["pack"]),
        ("מגן L 42", "מגן XL", ["grade"]),
        ("פטל קפוא", "פירות יער קפוא", []),
        ("נקניק עוף", "נקניק הודו", ["flavour"]),
        ("אסם במבה", "במבה", []),
        ("תנובה שמנת", "טרה שמנת", ["brand"]),
    ],
)
def test_conflicts(one, other, conflicts):
    assert find_conflicts(make_attributes(one), make_attributes(other)) == conflicts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("משקה שקדית 1 ליטר", 'משקה שקדית 1000 מ"ל'),
        ("גריסית 500 גרם", 'גריסית 0.5 ק"ג'),
        ("Coca Cola zero 1.5L", "קוקה קולה זירו 1500 מל"),
        ("אגסית לייט 6*330 מ''ל", "אגסית light 6*0.33 ליטר"),
        ("אגסית ל. סוכר", "אגסית sugar free"),
    ],
)
def test_amounts_brands_and_diets_have_one_level_spelling(one, other):
    "Two spellings of one amount, brand or diet become the same text; another amount, brand or diet does not."
    assert level_name(one) == level_name(other) and fold_name(one) != fold_name(other)
    for made in make_variants(one):
        assert made.is_same or level_name(made.name) != level_name(one)


def test_what_one_side_says_is_told():
    said = find_one_sided(
        make_attributes("יוגורט שקדית 3% וניל L"), make_attributes("יוגורט שקדית אורגני 150 גרם תנובה")
    )
    assert said == ["brand", "diet:organic", "flavour:vanilla", "grade:size", "percent", "quantity"]


def test_centimetres_are_no_pack():
    assert parse_pack_count('מפה 50*70 ס"מ') is None and parse_pack_count("נייר 19x25 cm") is None


# Word lists


@pytest.mark.parametrize("kind", ["brand", "flavour", "diet"])
def test_word_lists_hold_together(kind):
    table = read_lexicon(kind)
    assert table.id.is_unique and table.id.str.fullmatch(r"[a-z0-9_]+").all() and (table.spellings.str.len() > 1).all()
    for column in {"owner", "broader"} & set(table.columns):
        assert set(table[column]) - {""} <= set(table.id)
    if kind == "flavour":
        groups = table.set_index("id").group
        broader = table[table.broader.ne("")]
        assert (broader.group.to_numpy() == groups[broader.broader].to_numpy()).all()
    spelled = table.assign(s=table.spellings.str.split("|")).explode("s")
    folded = spelled.assign(f=spelled.s.map(fold_name))
    assert folded.f.ne("").all() and (folded.groupby("f").id.nunique() == 1).all()


@pytest.mark.parametrize("kind", ["brand", "flavour", "diet"])
def test_every_spelling_is_understood_as_itself(kind):
    table = read_lexicon(kind)
    field = {"brand": "brands", "flavour": "flavours", "diet": "diets"}[kind]
    lost = [
        (i, s)
        for i, spellings in zip(table.id, table.spellings, strict=True)
        for s in spellings.split("|")
        if i not in getattr(make_attributes(f"שקדית {s}"), field)
    ]
    assert not lost


def test_glossary_is_a_dictionary():
    table = read_glossary()
    assert len(table) >= 600 and not table.duplicated().any()
    assert table.hebrew.str.contains("[א-ת]").all() and table.english.str.fullmatch(r"[a-z0-9 &%'-]+").all()


# Real names


@pytest.fixture(scope="module")
def spelled(real_names) -> pd.DataFrame:
    "Two thousand real barcodes as chains spell them."
    return real_names[real_names.gtin.isin(pd.Series(real_names.gtin.unique()).sample(2000, random_state=4))]


@pytest.mark.realdata
def test_real_names_are_read_quickly(spelled):
    names = spelled.item_name.drop_duplicates().sample(5000, random_state=1).tolist()
    make_attributes(names[0])
    start = time.process_time()
    for name in names:
        make_attributes.__wrapped__(name)
    assert len(names) / (time.process_time() - start) > 4000  # 10,000 and more on a quiet machine


@pytest.mark.realdata
def test_most_real_names_tell_something(spelled):
    said = pd.DataFrame([make_attributes(n) for n in spelled.item_name.drop_duplicates()])
    assert said.brand.notna().mean() > 0.3 and said.quantity.notna().mean() > 0.4 and 0.25 < said.is_cut.mean() < 0.5
    told = (
        said.brand.notna()
        | said.quantity.notna()
        | said.flavours.map(bool)
        | said.diets.map(bool)
        | said.percents.map(bool)
    )
    assert told.mean() > 0.8


@pytest.mark.realdata
def test_one_barcode_rarely_contradicts_itself_and_neighbours_often_do(spelled):
    pairs = make_pairs(spelled, limit=2)
    negatives = make_hard_negatives(pairs[pairs.groupby("gtin").cumcount() == 0])

    def share(one: pd.Series, other: pd.Series) -> float:
        return np.mean(
            [bool(find_conflicts(make_attributes(a), make_attributes(b))) for a, b in zip(one, other, strict=True)]
        )

    assert share(pairs.name_a, pairs.name_b) < 0.045 < 0.18 < share(negatives.anchor, negatives.negative)
