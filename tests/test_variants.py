"Variants of names: what is made on purpose, and what parsing makes of it on thousands of real names."

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.products.names import find_conflicts, fold_name, make_attributes
from grocery.products.variants import HARMLESS, TELLING, make_variants

INVENTED = [
    "משקה אגסית תנובה ללא סוכר 1.5 ליטר",
    "גבינת שמנית 5% 250 ג'",
    "ממתק אגוזית 6*45 גרם",
    "ביצי לולית L 12 יח'",
    "קפסולית שקדית 30 יח'",
    'קרם שקדית SPF 30 200 מ"ל',
    "Coca Cola zero 330 ml",
    "נסקפה גרגירון נטול קפאין 200 גרם",
    'אורזית 2 ק"ג',
]
TEXT = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([*" ".join(INVENTED).split(), "*", "%", "'", '"']), max_size=10).map(" ".join),
)


def failures(names) -> tuple[Counter, list]:
    "How many variants of each kind, and those that parsing does not judge as they were made."
    made, wrong = Counter(), []
    for name in names:
        said = make_attributes(name)
        for variant in make_variants(name):
            made[variant.kind] += 1
            if bool(find_conflicts(said, make_attributes(variant.name))) == variant.is_same:
                wrong.append((variant.kind, variant.is_same, name, variant.name))
    return made, wrong


def test_every_kind_is_made_from_some_name():
    made, wrong = failures(INVENTED)
    assert set(made) == {*HARMLESS, *TELLING} and not wrong


@settings(max_examples=200, deadline=None)
@given(TEXT, st.integers(0, 3))
def test_variants_repeat_with_their_seed_and_differ_from_the_name(name, seed):
    variants = make_variants(name, seed)
    assert variants == make_variants(name, seed)
    assert all(v.name != name and v.is_same == (v.kind in HARMLESS) for v in variants)
    assert len({v.kind for v in variants}) == len(variants)


def test_another_seed_makes_other_variants():
    assert len({tuple(v.name for v in make_variants(INVENTED[0], seed)) for seed in range(8)}) > 4


@given(TEXT)
def test_telling_variants_read_differently(name):
    "A telling change is one that a reader sees: the folded names differ."
    assert all(fold_name(v.name) != fold_name(name) for v in make_variants(name) if not v.is_same)


def test_several_amounts_leave_the_size_alone():
    kinds = {v.kind for v in make_variants("משקה שקדית 20 גרם חלבון 350 מ''ל")}
    assert not kinds & {"size", "count_added", "scale", "unit"}


@pytest.mark.realdata
def test_real_names_every_telling_change_is_seen_and_harmless_ones_are_forgiven(real_names):
    names = real_names.item_name.drop_duplicates()
    made, wrong = failures(names.sample(4000, random_state=11))
    assert (
        sum(made[kind] for kind in TELLING) > 6_000
        and min(made[k] for k in ("percent", "size", "count", "diet_removed", "grade")) > 10
    )
    assert not [w for w in wrong if not w[1]]
    for kind in HARMLESS:
        assert sum(w[0] == kind for w in wrong) <= 0.02 * made[kind]
