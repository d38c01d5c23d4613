"Text: normalising and folding are idempotent, never raise, and lose nothing that matters."

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grocery.text import empty_to_none, fold, is_hebrew, normalise_text, strip_marketing, tokens

PIECES = st.sampled_from(
    ["'", "''", "`", "’", "״", "”", '"', ")", "(", "{", "}", "*", "מבצע", "חדש", "מ.מ.", " ", "  ", "\u200f", "\u202e", "\u05b0", "שָׁלוֹם", "ך", "é", "e", "\u0301", "\ufb2a", "ﬁ", "Ｑ", "½", "1",
     "1.5", "%", "₪", "\xa0", "\t", "\n", "\0", "\x85", "İ", "ß", "™", "\u1fef", "\u1ffd", "\ud800", "Ù", "#", "!", "."]
)  # fmt: skip
TEXT = st.one_of(st.none(), st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join))


@settings(max_examples=500)
@given(TEXT)
@example("a''''b")
@example("'\u200f'")
@example("{מ.{חדש}מ.}")
def test_functions_are_idempotent_and_never_raise(text):
    for function in (normalise_text, fold, strip_marketing):
        once = function(text)
        assert function(once) == once
        assert "\ufffd" not in once or "\ufffd" in text
        assert once == " ".join(once.split())
    assert tokens(text) == fold(text).split()
    is_hebrew(text)


@settings(max_examples=300)
@given(TEXT)
def test_normalising_keeps_letters_and_digits(text):
    kept = [c for c in normalise_text(text) if "א" <= c <= "ת" or c.isascii() and c.isalnum()]
    there = [c for c in text or "" if "א" <= c <= "ת" or c.isascii() and c.isalnum()]
    position = iter(kept)
    assert all(c in position for c in there)  # every plain letter is still there, in order


@given(TEXT, TEXT)
def test_folding_ignores_what_normalising_removes(a, b):
    if normalise_text(a) == normalise_text(b):
        assert fold(a) == fold(b)
    assert fold(a) == fold(normalise_text(a))


@given(TEXT, st.sampled_from(["", "zipcode", "clubid", "itemname", "manufacturername"]))
def test_empty_or_the_stripped_text(text, field):
    value = empty_to_none(text, field)
    assert value is None or (value == text.strip() and value)
    assert empty_to_none(value, field) == value


@pytest.mark.parametrize(
    "text, field, value",
    [
        ("0", "clubid", "0"),
        ("0000000000000", "itemcode", "0000000000000"),
        ("0.00", "itemprice", "0.00"),
        ("0", "bikoretno", "0"),
        ("0", "city", None),
        ("0000000", "zipcode", None),
        ("00000000,0,000000000", "unitofmeasure", None),
        ("unknown", "address", None),
        ("כללי", "itemname", "כללי"),
        ("אין", "unitqty", None),
        ("?????", "itemname", None),
        ("null", "", None),
    ],
)
def test_what_is_empty_depends_on_the_field(text, field, value):
    assert empty_to_none(text, field) == value


@pytest.mark.parametrize(
    "text, tidy",
    [
        ("דג שלם)ארוז(לקג", "דג שלם(ארוז)לקג"),
        ("סוכריות) (12", "סוכריות) (12"),
        ("חולצה M) Q. ABCD)", "חולצה M) Q. ABCD)"),
        ("(א) )ב(", "(א) )ב("),
        ("1¼", "1 1/4"),
        ("פליל-מארז־דק – 5", "פליל-מארז-דק - 5"),
        ("חִתוּלִים", "חתולים"),
        ("\ufb2aלום", "שלום"),
        ("ג`ל ל’תינוק 5׳", "ג'ל ל'תינוק 5'"),
        ("מ``ל מ״ל מ''ל", 'מ"ל מ"ל מ"ל'),
        ("\u200fחלב\u200f \u202bטרי", "חלב טרי"),
        ("a\0b", "ab"),
        ("a\tb\r\nc", "a b c"),
    ],
)
def test_tidy(text, tidy):
    assert normalise_text(text) == tidy


@pytest.mark.realdata
def test_real_names_keep_their_words(realdata):
    import gzip

    names = [
        n
        for line in gzip.open(realdata / "derived" / "shared_barcodes.jsonl.gz")
        for ns in json.loads(line)["names"].values()
        for n in ns
    ]
    assert len(names) > 10_000
    for name in names:
        tidy = normalise_text(name)
        assert normalise_text(tidy) == tidy and fold(fold(name)) == fold(name)
        assert [c for c in tidy if c.isdigit()] == [
            c for c in name.replace("¼", "14").replace("½", "12").replace("¾", "34") if c.isdigit()
        ]


@pytest.mark.parametrize(
    "one, other",
    [
        ('שמן 750 מ"ל', "שמן 750 מל"),
        ("לחם אחיד פרוס", "לחמ אחיד פרוס."),
        ("Crème FRAÎCHE", "creme fraiche"),
        ("ג'ל (כביסה)", "גל כביסה"),
    ],
)
def test_spellings_that_fold_alike(one, other):
    assert fold(one) == fold(other)


def test_folding_keeps_what_tells_products_apart():
    assert fold("חלב 1.5 ליטר") != fold("חלב 15 ליטר") and fold("גבינה 5%") != fold("גבינה 5")
