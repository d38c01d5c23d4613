"Taxonomy: every code has its place, every word its class, and any text its answer."

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import SourceError
from grocery.products.taxonomy import (
    check_agreement,
    find_class,
    find_common_class,
    find_department,
    find_node,
    find_rule_matches,
    map_category,
    read_taxonomy,
)
from grocery.sample import products as market


def test_two_levels_with_names_in_two_languages():
    table = read_taxonomy()
    departments = table[table.department == ""]
    assert table.code.is_unique and 18 <= len(departments) <= 24 and 90 <= len(table) - len(departments) <= 140
    assert set(table.department) - {""} == set(departments.code)
    assert (table.hebrew != "").all() and (table.english != "").all()
    assert table.hebrew.str.contains("[א-ת]").all() and table.english.str.fullmatch(r"[A-Za-z ,'-]+").all()


def test_codes_of_others_are_well_formed():
    table = read_taxonomy()
    assert table.coicop.map(lambda c: bool(re.fullmatch(r"(\d\d(\.\d){0,3})?", c))).all()
    assert table.gpc.map(lambda c: bool(re.fullmatch(r"(\d{8})?", c))).all()


def test_foreign_categories_lead_to_codes_that_are_there():
    for category in market.CATEGORIES:
        codes = map_category(category, "sample")
        assert codes and all(find_node(code) for code in codes)
    assert map_category("never heard") is None and map_category("כללי") == frozenset()
    with pytest.raises(SourceError, match="allowed"):
        find_node("never heard")
    assert find_department(None) is None and find_department("milk") == "dairy" and find_department("dairy") == "dairy"


def test_the_sample_market_is_understood_by_rules_alone():
    products = market.make_products(400)
    items = market.make_items(products).merge(products[["product_id", "category"]], on="product_id")
    said = items.item_name.map(find_class)
    agrees = [
        bool(c) and check_agreement(c, map_category(k, "sample")) for c, k in zip(said, items.category, strict=True)
    ]
    assert pd.Series(agrees).mean() > 0.8 and said.isna().mean() < 0.1


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_looked_up(text):
    found = find_rule_matches(text)
    assert [f[0] for f in found] == sorted((f[0] for f in found), reverse=True)
    assert find_class(text) == (found[0][1] if found else None)


def test_spellings_vote():
    assert find_common_class(["חלב 3%", "חלב טרי", "770"]) == ("milk", pytest.approx(2 / 3))
    assert find_common_class([]) == (None, 0.0)
