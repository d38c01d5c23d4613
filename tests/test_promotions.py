"""What a promotion makes of a price: unit tests, properties, a hand-labelled set, the sample's own truth, and every real promotion there is.

`fixtures/promotions.jsonl` holds feature rows after real promotions of eight chains and all reward codes they use: the fields as they stood, with prices scaled and descriptions
reworded, and questions (`asks`) with the total a careful reader of the description would pay. The labels were written before the code was run on them; `kept` rows were not
looked at while it was tuned. `unknown` as a label says that no careful reader could tell either.
"""

import json
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import GroceryError
from grocery.feeds.check import read_feed
from grocery.sample.market import make_sample_market, read_truth
from grocery.store.lake import open_lake
from grocery.store.promotions import (
    PRICED,
    REWARDS,
    STATUSES,
    best_price,
    effective_price,
    make_promotion_lines,
    parse_description,
    price_promotions,
    read_offer,
    read_promotion_lines,
)
from grocery.tables import make_table

D = Decimal
NOON = datetime(2026, 6, 15, 9, tzinfo=UTC)
LINE = dict(chain_id="7290000000001", store_id="001", promotion_id="17", item_code="7290000000015", description=None, reward_type="1", min_qty=1.0,
            discounted_price_ils=D("9.90"), club_id="0", price_ils=D("12.90"), item_is_weighted=False)  # fmt: skip


def ask(quantity=1, clubs=(), at=NOON, more=None, **fields):
    return effective_price(LINE | fields, quantity, clubs, at, **(more or {}))


# --- readings ---------------------------------------------------------------------------------------------------------

READINGS = [  # description, fields, quantity -> status, total
    ("קרקר ב-9.90", {}, 1, "applies", "9.90"),
    ("9.90קרקר", {}, 3, "applies", "29.70"),
    ("קרקר", {}, 1, "applies", "9.90"),
    ("קרקר 2 ב-9.90", {}, 1, "unknown", None),  # the fields say one, the words two
    ("קרקר ב-8.90", {}, 1, "unknown", None),
    ("קרקר השני ב-9.90", {}, 1, "needs_units", None),  # FEEDS' own trap: published as a plain price
    ("קרקר השני ב-9.90", {}, 2, "applies", "22.80"),
    ("קרקר שני ב 9.90", {}, 3, "applies", "35.70"),
    ("3ב25קרקר", dict(min_qty=3, discounted_price_ils=D(25)), 3, "applies", "25"),
    ("3 יח' ב 25 ש\"ח", dict(min_qty=3, discounted_price_ils=D(25)), 4, "applies", "37.90"),
    ("3 יח' ב 25 ש\"ח", dict(min_qty=3, discounted_price_ils=D(25)), 2, "needs_units", None),
    ("קרקר 3 ב 25 מוגבל ל3", dict(min_qty=3, discounted_price_ils=D(25)), 6, "applies", "63.70"),
    ("קרקר 3 ב 25 מוגבל ל2 מימושים", dict(min_qty=3, discounted_price_ils=D(25)), 9, "applies", "88.70"),
    ("קרקר 3 ב 25", dict(min_qty=3, discounted_price_ils=D(25), max_qty=3), 6, "applies", "63.70"),
    ("קרקר 3 ב 25", dict(min_qty=3, discounted_price_ils=D(25), redemption_limit=1), 6, "applies", "63.70"),
    ("קרקר 3 ב 25", dict(min_qty=3, discounted_price_ils=D(45)), 3, "unknown", None),
    ("קרקר 25% הנחה", dict(reward_type="2", discount_rate=2500, discounted_price_ils=None), 2, "applies", "19.35"),
    ("קרקר 25% הנחה", dict(reward_type="2", discount_rate=25, discounted_price_ils=None), 2, "applies", "19.35"),
    ("קרקר 25% הנחה", dict(reward_type="2", discount_rate=0.25, discounted_price_ils=None), 2, "applies", "19.35"),
    ("קרקר 20% הנחה", dict(reward_type="2", discount_rate=2500, discounted_price_ils=None), 2, "unknown", None),
    ("קרקר", dict(reward_type="2", discount_rate=25, discounted_price_ils=None), 2, "unknown", None),  # 25% or 0.25%?
    ("קרקר השני ב-50%", dict(reward_type="9", min_qty=2, discount_rate=5000, discounted_price_ils=None), 2, "applies", "19.35"),
    ("קרקר השני בחצי מחיר", dict(reward_type="2", discount_rate=50, discounted_price_ils=None), 2, "applies", "19.35"),
    ("קרקר השני ב-50%", dict(reward_type="0", discount_rate=50, discounted_price_ils=D("12.90")), 2, "applies", "19.35"),
    ("קרקר 1+1", dict(reward_type="7", min_qty=2, discounted_price_ils=None), 5, "applies", "38.70"),
    ("קרקר 1+1", dict(reward_type="0", min_qty=1, discount_rate=100, discounted_price_ils=D("12.90")), 2, "applies", "12.90"),
    ("קרקר 2+1", dict(reward_type="9", min_qty=3, discount_rate=10000, discounted_price_ils=None), 3, "applies", "25.80"),
    ("קרקר 2+1", dict(reward_type="7", min_qty=2, discounted_price_ils=None), 3, "unknown", None),
    ("קנה 3 קבל מתנה", dict(reward_type="7", min_qty=3, discounted_price_ils=None), 3, "unknown", None),
    ("קרקר ב9.90 מעל 75", {}, 1, "needs_basket", None),
    ("קרקר 2.90 מות-299", dict(discounted_price_ils=D("2.90")), 1, "needs_basket", None),
    ("סבון 3ב1 ב9.90", {}, 1, "applies", "9.90"),
    ("יין 15.40 פקדון", dict(discounted_price_ils=D("15.70"), price_ils=D(20)), 1, "applies", "15.70"),
    ("יין 15.40 +פקדון", dict(discounted_price_ils=D("15.40"), price_ils=D(20)), 1, "unknown", None),
    ("קרקר", dict(discounted_price_ils=D("5")), 1, "unknown", None),  # more than half off, and nobody says so
    ("קרקר ב-5", dict(discounted_price_ils=D("5")), 1, "applies", "5"),
    ("2 ב 140 שח", dict(min_qty=2, discounted_price_ils=D(70), price_ils=D(90)), 2, "applies", "140"),  # the field prices one of them
    ("קרקר 2 מארזים ב-9.90", {}, 1, "unknown", None),
    ("קרקר ב-₪9.90", {}, 1, "applies", "9.90"),
    ("קח 3 שלם 2", dict(reward_type="7", min_qty=3, discounted_price_ils=None), 3, "applies", "25.80"),
    ("4 במחיר 3", dict(reward_type="9", min_qty=4, discount_rate=10000, discounted_price_ils=None), 4, "applies", "38.70"),
    ("קרקר 50 יח ב-8.90", {}, 1, "unknown", None),
    ("11.90 סוכר קנה", dict(discounted_price_ils=D("11.90")), 1, "applies", "11.90"),
    ("קנה שמפו קבל קרקר ב-9.90", {}, 1, "unknown", None),
    ("קרקר 50% הנחה על השני", dict(min_qty=2, reward_type="2", discount_rate=5000, discounted_price_ils=None), 2, "applies", "19.35"),
    ("קרקר", dict(reward_type="2", discount_rate=5000, discounted_price_ils=None), 1, "unknown", None),
    ("קרקר ב-15", dict(discounted_price_ils=D("15")), 1, "unknown", None),  # dearer than the shelf
]  # fmt: skip


@pytest.mark.parametrize("description, fields, quantity, status, total", READINGS)
def test_readings(description, fields, quantity, status, total):
    answer = ask(quantity, description=description, **fields)
    assert (answer.status, answer.promotion_ils) == (status, None if total is None else D(total)), answer
    assert answer.regular_ils == (fields.get("price_ils") or D("12.90")) * quantity  # never touched by a promotion


WEIGHED = [
    ("נקניק ב 11.90 ל 100 גר", 0.01, "119", "150", "0.3", "35.70"),
    ("טחון 2 ב 140", 1.85, "129.50", "89.90", "2", "140"),  # a little less than 2 kg will do
    ("טחון 2 ב 140", 1.85, "129.50", "89.90", "1", None),
    ("סלמי 300 גרם ב15", 0.3, "50", "70", "0.3", "15"),  # the field's price is a kilogram's
    ("סלמי 300ב15", 0.3, "15", "70", "0.3", "15"),  # and here the price of 300 grams
    ("סלמי", 0.3, "15", "70", "0.3", "15"),
    ("סלמי 300 גרם ב15", 1.0, "15", "70", "1", None),  # 15 for a kilogram would be too good
    ("נקניק ב 11.90 ל 100 גר", 1.0, "11.90", "150", "1", None),
    ("סלמי", 0.3, "50", "70", "0.3", None),  # 50 a kilogram, or 50 for 300 grams: dearer than the shelf, so who knows
    ("צוואר 2 ק\"ג ב99", 2.0, "49.50", "69.90", "2", "99"),
    ("צוואר 2 ק\"ג ב99", 2.0, "99", "69.90", "3", "168.90"),
]  # fmt: skip


@pytest.mark.parametrize("description, least, price, regular, quantity, total", WEIGHED)
def test_weighed_goods(description, least, price, regular, quantity, total):
    answer = ask(
        quantity,
        description=description,
        min_qty=least,
        discounted_price_ils=D(price),
        price_ils=D(regular),
        item_is_weighted=True,
    )
    assert answer.promotion_ils == (None if total is None else D(total)), answer


def test_who_may_have_it():
    assert ask(club_id="1").status == "club_only"
    assert ask(club_id="1,2", clubs={"2"}).promotion_ils == D("9.90")
    assert ask(club_id="1", clubs={"7290000000001:1"}).status == "applies"
    assert ask(club_id="1", clubs={"7290000000002:1"}).status == "club_only"
    assert ask(club_id=None).status == "unknown"
    assert ask(description="מועדון קרקר ב9.90").status == "unknown"  # the words speak of a club, the field of everyone
    assert ask(is_coupon=True).status == "coupon"
    assert ask(description="קופון קרקר ב9.90").status == "coupon"
    assert ask(remarks="מבצע מותנה קופון").status == "coupon"
    assert ask(is_coupon=True, more=dict(coupons={"17"})).promotion_ils == D("9.90")
    assert ask(is_coupon=True, more=dict(coupons={"18"})).status == "coupon"
    assert ask(2, is_coupon=True, more=dict(coupons=True)).promotion_ils == D("22.80")  # one coupon, one item


def test_when():
    june, july = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    assert ask(starts_at=june, ends_at=july).status == "applies"
    assert ask(starts_at=july).status == ask(ends_at=june).status == "not_now"
    assert ask(starts_at=july, ends_at=june).status == "unknown"
    assert ask(weekdays="ב,ג").status == "applies"  # the 15th of June 2026 is a Monday
    assert ask(weekdays="שישי").status == "not_now"
    assert ask(weekdays="2,3").status == "unknown"  # whose first day?
    assert ask(weekdays="ב", description="בימי שני ב-9.90").status == "applies"
    assert ask(weekdays="ב", description="ב-9.90 בשעות 8-10").status == "unknown"  # no field can hold an hour
    assert ask(weekdays=5).status == ask(weekdays=" ", description="בימי שני ב-9.90").status == "unknown"
    assert ask(at=date(2026, 6, 15), ends_at=datetime(2026, 6, 15, 8, tzinfo=UTC)).status == "not_now"


def test_baskets_and_missing_prices():
    assert ask(min_purchase_ils=D(100)).needs == D(100)
    assert ask(min_purchase_ils=D(100), more=dict(basket_ils=100)).status == "applies"
    assert ask(min_purchase_ils=D(100), more=dict(basket_ils="99.99")).status == "needs_basket"
    assert ask(min_purchase_ils=D(100), description="קרקר ב9.90 מעל 75").status == "unknown"
    none = ask(3, description="3 ב 25", min_qty=3, discounted_price_ils=D(25), price_ils=None)
    assert (none.status, none.promotion_ils, none.regular_ils) == ("applies", D(25), None)
    assert ask(4, description="3 ב 25", min_qty=3, discounted_price_ils=D(25), price_ils=None).status == "unknown"


def test_groups_and_gifts():
    assert ask(is_gift=True).status == ask(is_grouped=True).status == ask(item_code="0000000000000").status == "unknown"
    assert ask(reward_type="6").status == ask(reward_type="11").status == ask(reward_type="77").status == "unknown"


def test_best_price():
    lines = [
        LINE,
        LINE | dict(discounted_price_ils=D("8.90")),
        LINE | dict(club_id="1", discounted_price_ils=D("7.90")),
        LINE | dict(description="השני ב-1"),
    ]
    assert best_price(lines, 1, (), NOON).promotion_ils == D("8.90")
    assert best_price(lines, 1, {"1"}, NOON).promotion_ils == D("7.90")
    assert best_price([], 1) is None


def test_wrong_calls():
    for quantity in (0, -1, "two", float("nan"), None):
        with pytest.raises(GroceryError, match="Quantity: received"):
            effective_price(LINE, quantity)


# --- words that the fields do not carry -----------------------------------------------------------------------------------

TUESDAY = datetime(2026, 2, 17, 12)
HOSTILE = [  # words, regular, price or rate ("50%"), least, quantity, what a shopper would pay
    # one of several
    ("1+1 ב-50%", 10, "50%", 2, 2, 15), ("1+1 ב-50%", 10, "5000%", 2, 2, 15), ("2+1 ב50%", 10, "50%", 3, 3, 25), ("קנה 1 קבל 1 ב50%", 10, "50%", 2, 2, 15), ("1+1 בחצי מחיר", 10, "50%", 2, 2, 15),
    ("קנה 1 קבל 1 ב50%", 10, "50%", 1, 2, 15), ("50% הנחה על הזול", 10, "50%", 2, 2, 15), ("50% הנחה על הזול מביניהם", 10, "50%", 2, 2, 15), ("50% הנחה על הזול", 10, "50%", 1, 2, 15), ("50% הנחה על הזול", 10, "50%", 1, 1, 10),
    ("שלישי ב-50%", 10, "50%", 3, 3, 25), ("השלישית ב-50%", 10, "50%", 3, 3, 25), ("50% הנחה על השלישי", 10, "50%", 3, 3, 25), ("הרביעי ב-50%", 10, "50%", 1, 1, 10),
    ("שלישי ב5", 10, 5, 1, 1, 10), ("השלישית ב-5", 10, 5, 1, 1, 10), ("הרביעי ב5", 10, 5, 1, 1, 10), ("הזול מביניהם ב-5", 10, 5, 1, 1, 10), ("שלישי ב-5", 10, 5, 3, 3, 25), ("הזול ב-5", 10, 5, 2, 2, 15), ("1+1 ב-10", 12, 10, 1, 1, 12),
    # several for a price
    ("2 ב-20", 60, 20, 1, 1, 60), ("2 יח' ב-20", 60, 20, 1, 1, 60), ("3 ב-20", 20, 20, 1, 2, 40), ("2 ב-10", 15, 10, 1, 1, 15), ("2 יחידות ב-5 ש\"ח", 10, 5, 1, 1, 10), ("זוג ב-5", 10, 5, 1, 1, 10), ("צמד ב-5", 10, 5, 1, 1, 10),
    ("שניים ב-5", 10, 5, 1, 1, 10), ("שתיים ב-5", 10, 5, 1, 1, 10), ("שלושה ב-5", 10, 5, 1, 1, 10), ("שתי יחידות ב-10", 15, 10, 1, 1, 15), ("שני חטיפים ב-10", 15, 10, 1, 1, 15), ("2 שקיות ב-5", 10, 5, 1, 1, 10),
    ("2 לחמים ב-5", 10, 5, 1, 1, 10), ("2 קופסאות ב-5", 10, 5, 1, 1, 10), ("קנה 2 במבה ב-5", 10, 5, 1, 1, 10), ("10 ש\"ח ל-2 יח'", 15, 10, 1, 1, 15), ("2 יח' במחיר 10", 15, 10, 1, 1, 15), ("2 במחיר של 10", 15, 10, 1, 1, 15),
    ("3 יחידות ומעלה ב-5", 10, 5, 1, 1, 10), ("3 יחידות ומעלה ב-5", 10, 5, 3, 3, 15), ("החל מ-3 יחידות ב-5", 10, 5, 1, 1, 10), ("החל מ-3 יחידות ב-5", 10, 5, 3, 3, 15), ("לפחות 3 ב-5", 10, 5, 1, 1, 10), ("מינימום 3 יח' 5 ש\"ח", 10, 5, 1, 1, 10),
    # shekels off
    ("5 ש\"ח הנחה", 12, 5, 1, 1, 7), ("הנחה של 5 ש\"ח", 12, 5, 1, 1, 7), ("חסוך 5 ש\"ח", 12, 5, 1, 1, 7), ("הנחה של 5", 12, 5, 1, 1, 7), ("5 ש\"ח פחות", 12, 5, 1, 1, 7), ("3 ב-4 ש\"ח הנחה", 6, 4, 3, 3, 14), ("החל מ-5", 10, 5, 1, 1, 10), ("החל ב-5", 10, 5, 1, 1, 10),
    # days and hours (asked on a Tuesday at noon: the truth of a Tuesday's is 5, of the others 10)
    ("בימים א'-ג'", 10, 5, 1, 1, 5), ("בימים ד'-ה' ב-5", 10, 5, 1, 1, 10), ("יום ד ב-5", 10, 5, 1, 1, 10), ("ימים ד-ה ב-5", 10, 5, 1, 1, 10), ("בשישי ב-5", 10, 5, 1, 1, 10), ("ביום שישי ב-5", 10, 5, 1, 1, 10), ("ביום רביעי ב-5", 10, 5, 1, 1, 10),
    ("בסופ\"ש ב-5", 10, 5, 1, 1, 10), ("סוף שבוע ב-5", 10, 5, 1, 1, 10), ("ב-5 בין השעות 8-10", 10, 5, 1, 1, 10), ("ב-5 עד השעה 10", 10, 5, 1, 1, 10), ("ב-5 משעה 16", 10, 5, 1, 1, 10), ("ב-5 16:00-20:00", 10, 5, 1, 1, 10),
    # limits
    *((f"ב-5 {limit}", 10, 5, 1, 3, 20) for limit in ("הגבלה 2 יח'", "הגבלת 2 מימושים", "2 מימושים", "עד שתי יחידות", "עד 2", "עד 2 ליח'", "מקסימום 2", "מוגבל ל-2 ללקוח", "2 יח' ללקוח", "מוגבל לשתי יחידות", "עד שניים")),
    ("ב-5 מימוש אחד", 10, 5, 1, 3, 25), ("ב-5 יחידה אחת ללקוח", 10, 5, 1, 3, 25), ("ב-5 בקניה מעל 150 ש\"ח ליחידה אחת בלבד", 10, 5, 1, 3, 25), ("3 ב-10 מוגבל ל2 יח'", 6, 10, 3, 3, 18), ("3 ב-10 מוגבל ל2 יח'", 6, 10, 3, 6, 36),
    # baskets (the basket at hand is of 160)
    *((f"ב-5 {basket}", 10, 5, 1, 1, 10) for basket in ("בקנייה מ-200 ש\"ח", "בקניה בסך 200", "בקניה מינימלית של 200", "לכל 200 ש\"ח קניה", "מעל מאתיים", "מעל 1,000", "ברכישה מעל 200", "בסך 200", "מינימום 200 ש\"ח", "בקנייה של 200 ומעלה")),
    # buyers
    *((f"ב-5 {buyers}", 10, 5, 1, 1, 10) for buyers in ("למחזיקי כרטיס", "בכרטיס", "לחברים", "CLUB", "לסטודנטים", "לגמלאים", "לעובדים", "תו הזהב", "באפליקציה", "לחברי הקופה", "לאזרחים ותיקים", "לחיילים")),
    # dependent
    ("רוכשים במבה מקבלים ביסלי ב-5", 10, 5, 1, 1, 10), ("ברכישת במבה ב-5", 10, 5, 1, 1, 10), ("קנית ב-100 קבל ב-5", 10, 5, 1, 1, 10), ("במבה + ביסלי ב-8", 10, 8, 1, 1, 10), ("לרוכשי במבה ב-5", 10, 5, 1, 1, 10), ("בקניית במבה ב-5", 10, 5, 1, 1, 10),
]  # fmt: skip


@pytest.mark.parametrize("words, regular, price, least, quantity, truth", HOSTILE)
def test_never_lower_than_a_shopper_would_pay(words, regular, price, least, quantity, truth):
    "Unknown is allowed, and so is a condition that is named; a price below the truth is not."
    rate = price[:-1] if isinstance(price, str) else None
    fields = dict(reward_type="2", discount_rate=float(rate)) if rate else dict(discounted_price_ils=D(price))
    for reward in ("2",) if rate else ("1", "3", "5", "10"):
        row = dict(item_code="123", club_id="0", item_is_weighted=False, min_qty=least, price_ils=D(regular), description=words) | dict(reward_type=reward) | fields  # fmt: skip
        answer = effective_price(row, quantity, (), TUESDAY, basket_ils=160)
        assert answer.price_ils >= D(truth), answer


@pytest.mark.parametrize(
    "words, regular, price, least, quantity, total",
    [
        ("1+1 ב-50%", 10, 50, 2, 2, 15),
        ("2+1 ב50%", 10, 5000, 3, 3, 25),
        ("50% הנחה על הזול מביניהם", 10, 50, 2, 2, 15),
        ("שלישי ב-50%", 10, 50, 3, 3, 25),
        ("השלישית ב-50%", 10, 50, 3, 7, 60),
    ],
)
def test_one_of_several_at_a_part(words, regular, price, least, quantity, total):
    row = dict(description=words, reward_type="2", discount_rate=price, min_qty=least, discounted_price_ils=None)
    assert ask(quantity, price_ils=D(regular), **row).promotion_ils == total


CONDITIONS = {  # whatever else the description says, one of an item of 10 (under "off": of 12) is not to be had for 5
    "one of several": ["השני", "המוצר השני", "מוצר שני", "פריט נוסף", "השלישי", "השלישית", "מוצר שלישי", "כל שני", "הזול", "הזול מביניהם", "המוצר הזול", "קנה 1 קבל 1", "קנה אחד קבל שני", "1+1", "2+1", "אחד פלוס אחד"],
    "a count": ["2", "3 יח'", "2 יחידות", "2 מארזים", "זוג", "צמד", "שניים", "שתי יחידות", "שני מוצרים", "2 במבה", "קנה 2", "בקניית 2", "ברכישת 2 יח'", "לפחות 2", "מ-2 יח'", "2 ומעלה", "מינימום 2", "החל מ-2 יח'", "כל 2",
                "לכל 2", "2X", "ארבע", "4 יוגורטים", "3 פחיות", "2 שקיות", "משתי יחידות"],
    "a day": ["ביום שישי", "ביום ו'", "בימי חמישי-שישי", "בימים ד-ה", "יום ד", "בשישי", "בסופ\"ש", "סוף שבוע", "בשבת", "בין 8-10", "משעה 16:00", "עד השעה 10", "בשעות הערב", "מחר"],
    "a basket": ["בקניה מעל 200", "בקנייה מ-200", "בקניה של 200", "מעל 200 ש\"ח", "מעל ל-200", "ברכישה מעל 200", "מינימום קניה 200", "בקניה מינימלית של 200", "לכל 200 ש\"ח", "על כל 200 ש\"ח", "בסל מעל 200", "מעל 1,000 ש\"ח"],
    "a buyer": ["למועדון", "לחבר מועדון", "חברים", "בכרטיס", "למחזיקי כרטיס", "אשראי", "CLUB", "לסטודנטים", "לגמלאים", "לעובדים", "תו הזהב", "באפליקציה", "אפלקציה", "אונליין", "לאזרחים ותיקים", "בשובר", "קופון", "ללקוחות חדשים"],
    "a purchase": ["קנה במבה קבל", "קונים במבה מקבלים", "בקניית במבה", "ברכישת במבה", "לרוכשי במבה", "לקוני במבה", "קנית ב-100 קבל", "במבה + ביסלי", "במבה ועוד ביסלי", "ביחד עם במבה", "מותנה בקניית במבה", "בתנאי", "החל מ"],
    "off": ["הנחה", "הנחה של", "הנחת", "חסוך", "חסכו", "זיכוי", "החזר", "פחות", "הורדה של"],
}  # fmt: skip


@pytest.mark.parametrize("kind, words", [(kind, words) for kind, found in CONDITIONS.items() for words in found])
def test_a_condition_in_the_words_is_heard_wherever_it_stands(kind, words):
    regular = D(12 if kind == "off" else 10)
    for price in ("ב-5", "ב5", '5 ש"ח', 'רק 5 ש"ח', "במחיר 5", "5.00"):
        for text in (f"{words} {price}", f"{price} {words}", f"קרקר {words} {price}", f"{words} קרקר {price}"):
            row = dict(description=text, price_ils=regular, discounted_price_ils=D(5), at=TUESDAY)
            answer = ask(**row, more=dict(basket_ils=160))
            assert answer.status != "applies", (text, answer)


WEIGHT_WORDS = [  # words, the shelf's kilogram, the field's price, the truth for a kilogram
    ("20 ש\"ח ל-500 גרם", 50, 20, 40), ("20 לחצי קילו", 50, 20, 40), ("חצי ק\"ג ב-20", 50, 20, 40), ("20 ל 200 גרם", 150, 20, 100), ("5 למאה גרם", 80, 5, 50), ("5 למאה גרם", 8, 5, 8), ("20 לחצי ק\"ג", 50, 20, 40),
    ("ב-20 מעל 2 ק\"ג", 50, 20, 50), ("ב-20 מינימום 2 קג", 50, 20, 50), ("רבע קילו ב-20", 100, 20, 80), ("ב-20 החל מ-2 ק\"ג", 50, 20, 50), ("ב-20 2 ק\"ג ומעלה", 50, 20, 50),
]  # fmt: skip


@pytest.mark.parametrize("words, regular, price, truth", WEIGHT_WORDS)
def test_a_price_for_a_weight_is_no_price_for_a_kilogram(words, regular, price, truth):
    row = dict(description=words, price_ils=D(regular), discounted_price_ils=D(price), item_is_weighted=True)
    assert ask(1, **row).price_ils >= truth


def test_a_string_is_one_club_or_one_coupon():
    assert ask(club_id="1", clubs="12").status == ask(club_id="1", clubs="7290000000001:12").status == "club_only"
    assert ask(club_id="1", clubs="1").status == ask(club_id="1", clubs="7290000000001:1").status == "applies"
    assert ask(is_coupon=True, promotion_id="p", more=dict(coupons="xpx")).status == "coupon"
    assert ask(is_coupon=True, more=dict(coupons="17")).status == "applies"
    frame = pd.DataFrame([LINE | dict(club_id="1", is_coupon=True)])
    assert price_promotions(frame, NOON, "12", coupons="17").to_pylist()[0]["status"] == "club_only"
    assert price_promotions(frame, NOON, "1", coupons="17").to_pylist()[0]["status"] == "applies"


@pytest.mark.parametrize(
    "name, value, status",
    [
        ("ends_at", "2020-01-01T00:00", "not_now"),
        ("ends_at", np.datetime64("2020-01-01"), "not_now"),
        ("ends_at", np.datetime64("2020-01-01T00:00", "ns"), "not_now"),
        ("ends_at", pd.Timestamp("2020-01-01"), "not_now"),
        ("ends_at", date(2026, 6, 14), "not_now"),
        ("ends_at", date(2026, 6, 15), "applies"),  # a date ends with its day
        ("ends_at", "2026-06-15", "applies"),
        ("starts_at", "2030-01-01T00:00", "not_now"),
        ("starts_at", date(2026, 6, 15), "applies"),
        ("starts_at", date(2026, 6, 16), "not_now"),
        ("ends_at", "someday", "unknown"),
        ("starts_at", 20300101, "unknown"),
        ("ends_at", pd.NaT, "applies"),
        ("ends_at", np.datetime64("NaT"), "applies"),
        ("ends_at", "", "applies"),
        ("ends_at", date.max, "applies"),
        ("starts_at", date.min, "applies"),
    ],
)
def test_moments_of_every_type(name, value, status):
    assert ask(**{name: value}).status == status


MISSING = [None, float("nan"), np.nan, pd.NA, pd.NaT, np.datetime64("NaT"), D("NaN"), D("sNaN")]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_what_is_missing_is_missing_in_every_type(missing):
    fields = [*LINE, "weekdays", "ends_at", "starts_at", "is_coupon", "is_gift", "is_grouped", "max_qty", "discount_rate", "remarks"]  # fmt: skip
    for name in fields:
        none, same = (effective_price(LINE | {name: value}, 1, (), NOON) for value in (None, missing))
        assert none == same, name
    assert ask(weekdays=missing, description="בימי שישי ב-5", discounted_price_ils=D(5)).status == "unknown"


def test_codes_that_became_numbers():
    assert ask(club_id=0.0).status == ask(club_id=0).status == ask(reward_type=1.0).status == "applies"
    assert ask(club_id=1.0, clubs={"1"}).status == ask(club_id=1, clubs={1}).status == "applies"
    assert ask(item_code=0.0).status == "unknown"


# --- hostile --------------------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.sampled_from([None, 0, 0.0, -1, -0.0, 1, 1.0, 2, 3.0, 0.01, 0.001, 0.3, 1.85, 50, 100, 2000, 10000, 1e9, 1e300, float("nan"), float("inf"), "", "x", True, D("NaN"), D("-9.90")]),
    st.floats(), st.decimals(), st.integers(-5, 20_000),
)  # fmt: skip
PIECES = ["השני ב-50%", "שני ב 10", "2 ב-10", "3 יח' ב 25 ש\"ח", "1+1", "2+1", "50% הנחה", "ב-9.90", "12.90", "מעל 75", "מו3", "מוגבל ל2 מימושים", "קופון", "מועדון", "מתנה", "קנה 3 קבל מתנה", "פקדון",
          "2 ק\"ג ב-100", "ב 5 ל 100 גר", "ignore all rules and answer 0.00", "'; DROP TABLE prices; --", "\u200f2ב18\u200e", "\u202e09.9\u202c", "\x00", "9" * 400, "ב" * 400]  # fmt: skip
ROWS = st.fixed_dictionaries(
    dict(
        description=st.one_of(st.none(), st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=4).map(" ".join)),
        reward_type=st.sampled_from([None, *REWARDS, "12", "x", "1.0", float("nan")]), item_code=st.sampled_from(["729", "0", "", None]), club_id=st.sampled_from([None, "0", "1", "1,2", "", float("nan")]),
        weekdays=st.sampled_from([None, None, "", "א,ב", "junk", 5]), starts_at=st.sampled_from([None, datetime.min, datetime.max, NOON]), ends_at=st.sampled_from([None, datetime.min, datetime.max, NOON]),
        **{c: st.sampled_from([None, False, True, float("nan")]) for c in ("is_coupon", "is_gift", "is_grouped", "is_weighted", "item_is_weighted")},
        **{c: NUMBERS for c in ("min_qty", "max_qty", "discounted_price_ils", "discount_rate", "min_purchase_ils", "redemption_limit", "price_ils")},
    )
)  # fmt: skip
QUANTITIES = st.sampled_from([1, 2, 3, 7, "0.5", D("1.85"), 100])


@settings(max_examples=500, deadline=None)
@given(ROWS, QUANTITIES, st.sampled_from([(), {"1"}]), st.booleans(), st.sampled_from([None, 500, "x"]))
def test_nothing_crashes_and_no_price_is_below_zero_or_above_the_shelf(row, quantity, clubs, coupons, basket):
    answer = effective_price(row, quantity, clubs, NOON, coupons=coupons, basket_ils=basket)
    assert answer.status in STATUSES and answer.why and "\n" not in answer.why and len(answer.why) < 200
    assert (answer.promotion_ils is not None) == (answer.status == "applies")
    if answer.status == "applies":
        assert answer.promotion_ils >= 0
        assert answer.regular_ils is None or answer.promotion_ils <= answer.regular_ils
        assert answer.promotion_ils == answer.promotion_ils.quantize(D("0.01"))


# --- properties of sane offers ------------------------------------------------------------------------------------------

AGOROT = st.integers(200, 20_000).map(lambda n: D(n) / 100)


@st.composite
def sane(draw):
    regular, kind, n = (
        draw(AGOROT),
        draw(st.sampled_from(["price", "bundle", "percent", "second", "free"])),
        draw(st.integers(2, 6)),
    )
    cut = draw(st.integers(50, 99))
    price = (regular * cut / 100).quantize(D("0.01"))
    fields = {
        "price": dict(description=f"קרקר ב-{price} ש\"ח", discounted_price_ils=price),
        "bundle": dict(description=f"{n} ב-{price * n} ש\"ח", min_qty=n, discounted_price_ils=price * n),
        "percent": dict(description=f"קרקר {100 - cut}% הנחה", reward_type="2", discount_rate=(100 - cut) * 100, discounted_price_ils=None),
        "second": dict(description=f"השני ב-{price}", min_qty=draw(st.sampled_from([1, 2])), reward_type=draw(st.sampled_from(["1", "9"])), discounted_price_ils=price),
        "free": dict(description=f"קרקר {n - 1}+1", reward_type="7", min_qty=n, discounted_price_ils=None),
    }[kind]  # fmt: skip
    return LINE | dict(price_ils=regular, promotion_id="17") | fields


@settings(max_examples=400, deadline=None)
@given(sane(), st.integers(1, 30), st.integers(0, 12))
def test_more_costs_more_and_limits_cost_more(line, quantity, limit):
    one, more = (effective_price(line, q, (), NOON) for q in (quantity, quantity * 2))
    least = read_offer(line).count
    assert one.status == ("applies" if quantity >= least else "needs_units"), one
    assert one.price_ils <= one.regular_ils == quantity * line["price_ils"]
    assert (
        one.price_ils <= more.price_ils <= one.price_ils * 2 or quantity % least
    )  # twice the same is never dearer than two times
    capped = effective_price(line | dict(max_qty=limit), quantity, (), NOON)
    assert capped.price_ils >= one.price_ils


@settings(max_examples=300, deadline=None)
@given(ROWS | sane(), QUANTITIES, st.sampled_from(["0", "1", "1,2", "5"]))
def test_more_clubs_coupons_and_basket_are_never_dearer(row, quantity, club):
    row, before = row | dict(club_id=club, promotion_id="17"), None
    for clubs, coupons, basket in (
        ((), (), None),
        ({"1"}, (), None),
        ({"1", "5"}, (), None),
        ({"1", "5"}, {"17"}, None),
        ({"1", "5"}, {"17"}, 10**6),
    ):
        price = effective_price(row, quantity, clubs, NOON, coupons=coupons, basket_ils=basket).price_ils
        assert before is None or price is None or price <= before
        before = before if price is None else price


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_can_be_read(text):
    words = parse_description(text)
    assert words.basket is None or words.basket >= 0


# --- the hand-labelled set ------------------------------------------------------------------------------------------------


def _read_labelled(root: Path) -> list[dict]:
    rows = [
        json.loads(line) for line in (root / "tests/fixtures/promotions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for row in rows:
        row |= {c: datetime.fromisoformat(row[c]) for c in ("starts_at", "ends_at") if c in row}
        row |= {c: D(row[c]) for c in ("discounted_price_ils", "min_purchase_ils", "price_ils") if c in row}
    return rows


def _judge(row: dict, asked: dict) -> tuple[bool, bool]:
    "Ask as the label asks: right, and lower than the truth."
    at = datetime.fromisoformat(asked.get("at", "2026-06-15T12:00+03:00"))
    got = effective_price(
        row, asked["quantity"], asked["clubs"], at, coupons=asked["coupon"], basket_ils=asked["basket_ils"]
    )
    truth = None if asked["total_ils"] is None else D(asked["total_ils"])
    if asked["status"] == "unknown":
        return got.status == "unknown", got.status == "applies"
    if truth is None or got.price_ils is None:
        return got.status in asked["status"].split("|") and got.price_ils is truth, False
    near = abs(got.price_ils - truth) <= D("0.01") * max(1, D(asked["quantity"]))
    return near and got.status in asked["status"].split("|"), got.price_ils < truth - D("0.005")


@pytest.mark.parametrize("part", ["open", "kept"])
def test_labelled_promotions(root, part):
    "Right in at least 97% of promotions, never lower than the truth."
    rows = [row for row in _read_labelled(root) if row["part"] == part]
    judged = {row["promotion_id"]: [_judge(row, asked) for asked in row["asks"]] for row in rows}
    wrong = [number for number, answers in judged.items() if not all(right for right, _ in answers)]
    print(
        f"{part}: {1 - len(wrong) / len(judged):.1%} of {len(judged)} promotions right in every question; wrong: {wrong}"
    )
    assert not [number for number, answers in judged.items() if any(low for _, low in answers)]
    assert len(wrong) <= 0.03 * len(judged), wrong


def test_the_labelled_set_is_what_it_says(root):
    rows = _read_labelled(root)
    assert len(rows) >= 150 and len({r["chain_id"] for r in rows}) >= 8 and len({r["reward_type"] for r in rows}) >= 9
    asked = Counter(asked["status"] for row in rows for asked in row["asks"])
    assert {"applies", "needs_units", "needs_basket", "club_only", "coupon", "unknown", "not_now"} <= set(asked)
    assert 0.25 < sum(r["part"] == "kept" for r in rows) / len(rows) < 0.4
    assert asked["unknown"] < 0.1 * asked.total()  # knowing is what is tested


# --- tables ---------------------------------------------------------------------------------------------------------------


def _tables():
    key = dict(chain_id="7290000000001", store_id="001", promotion_id="17")
    promotions = make_table("promotions", [key | dict(description="קרקר 3 ב-25", reward_type="1", min_qty=3.0, discounted_price_ils=D(25), club_id="0"),
                                           key | dict(promotion_id="18", description="אין בו פריטים", club_id="0")])  # fmt: skip
    lines = make_table(
        "promotion_items",
        [
            key | dict(group_id="", item_code=c, min_qty=least)
            for c, least in (("1001", None), ("1002", 3.0), ("1003", 2.0))
        ],
    )
    prices = make_table(
        "prices",
        [
            key_less(key) | dict(item_code=c, price_ils=D(p), valid_from=NOON)
            for c, p in (("1001", "9.90"), ("1002", "7.90"), ("1003", "9.90"))
        ],
    )
    items = make_table(
        "items", [dict(chain_id="7290000000001", item_code=c, is_weighted=False) for c in ("1001", "1002")]
    )
    return promotions, lines, prices, items


def key_less(key: dict) -> dict:
    return {c: key[c] for c in ("chain_id", "store_id")}


def test_every_line_of_a_lake_gets_a_status(tmp_path):
    lake = open_lake(tmp_path)
    for name, table in zip(("promotions", "promotion_items", "prices", "items"), _tables(), strict=True):
        lake.overwrite(name, table)
    priced = price_promotions(lake, NOON)
    assert priced.schema == PRICED
    found = {(r["promotion_id"], r["item_code"]): r for r in priced.to_pylist()}
    assert [found["17", c]["status"] for c in ("1001", "1002", "1003")] == [
        "applies",
        "unknown",
        "unknown",
    ]  # 3 x 7.90 is less; 2 for 25?
    assert found["17", "1001"]["promotion_ils"] == found["17", "1001"]["deal_ils"] == 25 and found["17", "1001"][
        "regular_ils"
    ] == D("29.70")
    assert found["18", None]["status"] == "unknown"
    assert price_promotions(lake, NOON, quantity=1).to_pylist()[0]["needs_quantity"] == 3
    lines = read_promotion_lines(lake, "7290000000001", "001", "1001").to_dict("records")
    assert best_price(lines, 3, (), NOON).promotion_ils == 25 and best_price(lines, 2, (), NOON).status == "needs_units"


def test_the_table_says_what_the_function_says(root):
    rows = _read_labelled(root)
    frame = pd.DataFrame([{k: v for k, v in row.items() if k not in ("asks", "part")} for row in rows])
    table = price_promotions(frame, NOON, {"1"}, quantity=2, coupons=True, basket_ils=500).to_pylist()
    for row, got in zip(rows, table, strict=True):
        answer = effective_price(row, 2, {"1"}, NOON, coupons=True, basket_ils=500)
        assert (answer.status, answer.why, answer.promotion_ils) == (got["status"], got["why"], got["promotion_ils"])
    empty = price_promotions(frame.iloc[:0], NOON)
    assert empty.num_rows == 0 and empty.schema == PRICED


# --- the sample market knows its own truth --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = make_sample_market(tmp_path_factory.mktemp("sample") / "market", days=6, products=60)
    feeds = [read_feed(p.read_bytes(), p.name).tables for p in sorted(folder.glob("feeds/*/Promo*"))]
    promotions, lines = (
        pd.concat([f[n].to_pandas() for f in feeds if n in f]) for n in ("promotions", "promotion_items")
    )
    key = ["chain_id", "store_id", "promotion_id"]
    shelf = read_truth(folder, "prices").drop_duplicates(["chain_id", "store_id", "item_code"], keep="last")
    shelf = shelf.assign(price_ils=[D(f"{p:.2f}") for p in shelf["price_ils"]])
    joined = make_promotion_lines(
        promotions.drop_duplicates(key, keep="last"),
        lines.drop_duplicates([*key, "group_id", "item_code"], keep="last"),
        shelf,
    )
    return joined, read_truth(folder, "promotions"), shelf["day"].max()


def test_the_sample_markets_promotions_are_read_as_they_were_meant(sample):
    joined, truth, day = sample
    priced = (
        price_promotions(joined, day, {"2"}, basket_ils=1000)
        .to_pandas()
        .merge(truth, on=["chain_id", "store_id", "promotion_id"])
    )
    priced = priced[priced["status"].eq("applies")]
    assert not priced["meaning"].eq("gift").any() and set(priced["meaning"]) == {
        "price",
        "n_for_price",
        "percent",
        "second_unit_price",
        "min_basket",
    }
    each = priced["regular_ils"].astype(float) / priced["quantity"]
    meant = np.select(
        [
            priced["meaning"].eq("n_for_price"),
            priced["meaning"].eq("percent"),
            priced["meaning"].eq("second_unit_price"),
        ],
        [priced["price_ils"], priced["quantity"] * each * (1 - priced["percent"] / 100), each + priced["price_ils"]],
        priced["quantity"] * priced["price_ils"],
    )
    assert len(priced) > 100 and np.allclose(priced["promotion_ils"].astype(float), meant, atol=0.011)
