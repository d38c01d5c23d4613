"""A set of pairs to judge by holds every kind, nothing twice, and nothing that names cannot decide."""

import numpy as np
import pandas as pd
import pytest

from grocery.models import find_model
from grocery.products.curated import make_curated_pairs, score_curated_pairs
from grocery.products.link import measure_pairs, read_matcher
from grocery.products.names import find_conflicts, fold_name, make_attributes
from grocery.products.pairs import make_split
from grocery.products.train import PARTS, find_twins
from grocery.sample.products import make_items, make_products

MOST = 30


@pytest.fixture(scope="module")
def matcher():
    return read_matcher(find_model("similarity@bundled"))


@pytest.fixture(scope="module")
def aside() -> pd.DataFrame:
    "Products of the bundled model's own market that it has not learned from."
    market = make_products(600)
    names = make_items(market).merge(market[["product_id", "gtin"]], on="product_id").dropna(subset="gtin")
    return names[make_split(names.gtin, parts=PARTS) == "test"]


@pytest.fixture(scope="module")
def curated(matcher, aside) -> pd.DataFrame:
    return make_curated_pairs(matcher.ruler, aside, MOST)


def test_every_pair_is_of_the_products_given_and_stands_once(curated, aside):
    assert len(curated) > 400 and set(curated.gtin) <= set(aside.gtin)
    assert not curated.duplicated(["name_a", "name_b"]).any() and curated.notna().all(axis=None)
    sizes = curated.groupby(["kind", "is_same"]).size()
    assert sizes.drop("same", level="kind").max() == MOST and sizes["same", True] <= 5 * MOST


def test_no_pair_is_beyond_deciding(curated, matcher):
    same = curated[curated.kind == "same"]
    for a, b in zip(same.name_a, same.name_b, strict=True):
        assert fold_name(a) != fold_name(b) and not find_conflicts(make_attributes(a), make_attributes(b))
    near = curated[curated.kind.str.startswith("near")]
    assert len(near) > 50 and not find_twins(measure_pairs(matcher.ruler, near)).any() and not near.is_same.any()


def test_kinds_say_what_tells_two_names_apart(curated):
    said = curated[curated.kind.isin(["near: percent", "near: quantity"])]
    assert len(said) > 10
    for row in said.itertuples():
        a, b = make_attributes(row.name_a), make_attributes(row.name_b)
        kind = row.kind.removeprefix("near: ")
        one = bool(a.percents) != bool(b.percents) if kind == "percent" else bool(a.quantity) != bool(b.quantity)
        assert kind in find_conflicts(a, b) or one


def test_the_set_is_the_same_every_time_and_another_seed_draws_another(curated, matcher, aside):
    shuffled = aside.sample(frac=1, random_state=1)
    assert make_curated_pairs(matcher.ruler, aside, MOST).equals(curated)
    assert not make_curated_pairs(matcher.ruler, shuffled, MOST, seed=8).equals(curated)


def test_decisions_are_counted_kind_by_kind(curated, matcher):
    class Parrot:
        "Accepts every second pair."

        ruler = matcher.ruler

        def accepts(self, figures):
            return np.arange(len(figures)) % 2 == 0

    table = score_curated_pairs(Parrot(), curated).set_index(["kind", "is_same"])
    for (kind, same), rows in curated.reset_index(drop=True).groupby(["kind", "is_same"]):
        yes = (rows.index % 2 == 0).sum()
        assert table.loc[(kind, same), "accepted"] == yes
        assert table.loc[(kind, same), "right"] == pytest.approx((yes if same else len(rows) - yes) / len(rows))


def test_the_bundled_model_accepts_no_changed_product(curated, matcher):
    table = score_curated_pairs(matcher, curated)
    changed = table[table.kind.str.startswith("changed")]
    assert (changed[~changed.is_same].accepted == 0).all() and changed[changed.is_same].right.min() > 0.7


@pytest.mark.realdata
def test_real_names_give_a_thousand_pairs_and_more_of_every_kind(real_names, matcher):
    pairs = make_curated_pairs(matcher.ruler, real_names[make_split(real_names.gtin, parts=PARTS) == "test"])
    kinds = {kind.split(":")[0] for kind in pairs.kind}
    assert len(pairs) >= 1000 and kinds == {"same", "near", "changed"} and pairs.kind.nunique() > 15
    assert 0.3 < pairs.is_same.mean() < 0.7
