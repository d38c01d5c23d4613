"""Items without a barcode find their product or are left alone; nothing contradictory is ever one product, and every link can be taken back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import LakeError, SourceError
from grocery.models import find_model
from grocery.products.catalogue import (
    add_decisions,
    date_links,
    find_links,
    make_lake_catalogue,
    make_review,
    read_decisions,
    take_back_links,
    write_catalogue,
)
from grocery.products.claims import find_claims, make_asked, make_evidence
from grocery.products.clusters import CLUSTER_METRICS, Group, find_objection, make_clusters, score_clusters
from grocery.products.link import read_matcher
from grocery.products.match import link_codes
from grocery.products.merge import LOOSE_SCORE, find_threshold, hide_barcodes, learn_merger, merge_items, score_claims
from grocery.products.names import find_conflicts, make_attributes
from grocery.sample import products as market
from grocery.store.lake import open_lake
from grocery.tables import check_table, make_table

EDGES = ["one", "other", "score"]
MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def matcher():
    return read_matcher(find_model("similarity@bundled"))


@pytest.fixture(scope="module")
def listed():
    goods = market.make_products(500, seed=23)
    table = market.make_items(goods, 23).merge(goods.drop(columns="category"), on="product_id")
    noise = np.exp(np.random.default_rng(1).normal(0, 0.08, len(table)))
    table = table.rename(columns={"product_id": "true"}).assign(manufacturer=None, price_ils=table.base_ils * noise)
    return table.assign(is_weighted=table.is_weighed)


@pytest.fixture(scope="module")
def run(matcher, listed):
    return learn_merger(matcher, listed, link_codes(listed))


@pytest.fixture(scope="module")
def merged(matcher, listed, run):
    return merge_items(matcher, run.merger, listed, link_codes(listed))


# Clusters

NAMES = ("חלב 3% 1 ליטר", "חלב 1% 1 ליטר", "חלב 3% 2 ליטר", "חלב", "חלב דל שומן")
GROUPS = st.builds(
    lambda gtin, chains, name: Group(gtin, frozenset(chains), frozenset({name})),
    st.sampled_from([None, None, "g1", "g2"]),
    st.sets(st.sampled_from("ABCDE"), min_size=1, max_size=2),
    st.sampled_from(NAMES),
)


@st.composite
def _worlds(draw):
    groups = draw(st.lists(GROUPS, min_size=2, max_size=9))
    pairs = [p for p in combinations(range(len(groups)), 2) if draw(st.booleans())]
    scores = draw(st.lists(st.integers(0, 20), min_size=len(pairs), max_size=len(pairs)))
    return groups, pd.DataFrame([(*p, s / 20) for p, s in zip(pairs, scores, strict=True)], columns=EDGES)


@settings(deadline=None, max_examples=80)
@given(_worlds(), st.sampled_from([0.3, 0.6, 0.9]))
def test_no_cluster_ever_contradicts_itself(world, threshold):
    groups, edges = world
    found = make_clusters(groups, edges, threshold)
    score = {frozenset((int(a), int(b))): s for a, b, s in edges.itertuples(index=False)}
    for number in set(found.number):
        mine = [int(g) for g in np.flatnonzero(found.number == number)]
        assert number == min(mine) and len({groups[g].gtin for g in mine} - {None}) < 2
        for g, h in combinations(mine, 2):
            assert not groups[g].chains & groups[h].chains
            said = [make_attributes(next(iter(groups[k].names))) for k in (g, h)]
            assert not find_conflicts(*said)
        if len(mine) > 1:
            mean = np.mean([score.get(frozenset(pair), 0.0) for pair in combinations(mine, 2)])
            assert found.score[mine] == pytest.approx(mean) and mean > 0


@settings(deadline=None, max_examples=80)
@given(_worlds(), st.randoms(use_true_random=False))
def test_the_order_of_edges_changes_nothing(world, random):
    groups, edges = world
    order = list(range(len(edges)))
    random.shuffle(order)
    first, second = (make_clusters(groups, e, 0.5) for e in (edges, edges.iloc[order]))
    assert first.number.tolist() == second.number.tolist()


@settings(deadline=None, max_examples=80)
@given(_worlds())
def test_a_person_outweighs_names_and_chains_but_not_two_barcodes(world):
    groups, edges = world
    pair = frozenset((0, 1))
    rest = [tuple(row) for row in edges.itertuples(index=False) if row[:2] != (0, 1)]
    edges = pd.DataFrame([(0, 1, 1.0), *rest], columns=EDGES)
    joined = make_clusters(groups, edges, 1.0, joined=frozenset({pair})).number
    assert (joined[0] == joined[1]) == (find_objection(*groups[:2]) != "two barcodes") or (edges.score == 1).sum() > 1
    parted = make_clusters(groups, edges, 0.1, parted=frozenset({pair})).number
    assert parted[0] != parted[1]


def test_resemblance_does_not_travel_along_a_chain():
    groups = [Group(None, frozenset(c), frozenset({"סלט"})) for c in "ABCD"]
    chain = pd.DataFrame([(0, 1, 0.9), (1, 2, 0.9), (2, 3, 0.9)], columns=EDGES)
    assert len(set(make_clusters(groups, chain, 0.8).number)) > 1
    full = pd.DataFrame([(a, b, 0.9) for a, b in combinations(range(4), 2)], columns=EDGES)
    assert set(make_clusters(groups, full, 0.8).number) == {0}


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), min_size=1, max_size=14))
def test_figures_of_clusters_are_what_counting_by_hand_gives(rows):
    said, true, asked = (np.array(column) for column in zip(*rows, strict=True))
    figures = score_clusters(said, true, asked.astype(bool), rounds=5).set_index("metric").value
    judged = [i for i in range(len(rows)) if asked[i]]
    if not judged:
        assert figures.empty
        return
    others = [(i, j) for i in judged for j in range(len(rows)) if i != j]
    both = sum(said[i] == said[j] and true[i] == true[j] for i, j in others)
    stand, belong = (sum(x[i] == x[j] for i, j in others) for x in (said, true))
    for metric, of in (("pairwise_precision", stand), ("pairwise_recall", belong)):
        assert figures[metric] == pytest.approx(both / of) if of else np.isnan(figures[metric])
    for metric, of in (("bcubed_precision", said), ("bcubed_recall", true)):
        shares = [((said == said[i]) & (true == true[i])).sum() / (of == of[i]).sum() for i in judged]
        assert figures[metric] == pytest.approx(np.mean(shares))
    assert list(figures.index) == list(CLUSTER_METRICS)


# Claims and what is learned


def test_claims_go_to_other_chains_and_contradict_nothing(matcher, listed):
    asked = make_asked(listed, link_codes(listed))
    claims = find_claims(matcher, asked)
    assert len(claims.pairs) > 300
    known = asked.items
    chains, names = known.chain_id.to_numpy(), known.item_name.to_numpy()
    for row in claims.pairs.itertuples():
        there = set(chains[asked.group == row.group])
        assert chains[row.asking] not in there
        assert not find_conflicts(make_attributes(names[row.asking]), make_attributes(names[row.known]))
    evidence = make_evidence(asked, claims)
    assert not evidence.duplicated(["asking", "group"]).any() and np.isfinite(evidence.lead).all()
    best = evidence.sort_values("order", ascending=False).drop_duplicates("asking")
    assert (best.lead >= 0).all() and (best.place == 1).all()


def test_items_without_prices_ask_as_well(matcher, listed):
    plain = listed.drop(columns="price_ils").sample(400, random_state=1)
    asked = make_asked(plain, link_codes(plain))
    evidence = make_evidence(asked, find_claims(matcher, asked))
    assert len(evidence) > 20 and evidence.price_gap.isna().all() and evidence.probability.between(0, 1).all()


def test_hidden_barcodes_are_hidden_and_nothing_else_changes(listed):
    links = link_codes(listed)
    hidden, truth = hide_barcodes(links, most=50, seed=3)
    before, after, mine = links.to_pandas(), hidden.to_pandas(), truth.notna().to_numpy()
    assert before[~mine].equals(after[~mine]) and set(after[mine].method) == {"own_code"}
    assert (after[mine].product_id == after.chain_id[mine] + ":" + after.item_code[mine]).all()
    assert truth[mine].tolist() == before.product_id[mine].tolist() and 2 <= truth.nunique() <= 50
    only = {*before.product_id[before.method == "gtin"].unique()[:9]}
    assert set(hide_barcodes(links, of=only)[1].dropna()) <= only


def test_the_merger_is_as_precise_as_asked_and_finds_more_than_the_simple_ways(run):
    figures = run.figures.pivot(index="model", columns="metric", values="value")
    assert figures.bcubed_precision["merger"] >= 0.9
    assert figures.bcubed_f1["merger"] > figures.bcubed_f1.drop("merger").max() + 0.1


def test_loose_goods_of_which_nothing_was_learned_are_joined_rightly(listed, merged):
    links = link_codes(listed)
    true = links.to_pandas().merge(listed, on=["chain_id", "item_code"]).true.to_numpy()
    loose = np.array([m == "own_code" for m in links["method"].to_pylist()])
    said = merged.links["product_id"].to_numpy(zero_copy_only=False)
    figures = score_clusters(said, true, loose).set_index("metric").value
    alone = score_clusters(links["product_id"].to_numpy(zero_copy_only=False), true, loose).set_index("metric").value
    assert figures.bcubed_precision > 0.9 and figures.bcubed_recall > alone.bcubed_recall + 0.3


def test_merged_items_keep_their_contract_and_every_product_is_free_of_conflicts(listed, merged):
    links = merged.links
    assert check_table("product_items", links).equals(links) and len(links) == len(listed)
    assert check_table("link_queue", merged.queue).equals(merged.queue)
    table = links.to_pandas().merge(
        listed[["chain_id", "item_code", "item_name", "gtin"]], on=["chain_id", "item_code"]
    )
    by_name = table[table.method == "name"]
    assert len(by_name) > 50 and by_name.score.between(0.5, 1).all()
    for product in by_name.product_id.unique():
        rows = table[table.product_id == product]
        assert rows.chain_id.is_unique and rows.gtin.dropna().nunique() < 2
        for a, b in combinations(rows.item_name, 2):
            assert not find_conflicts(make_attributes(a), make_attributes(b)) or {a, b} & {
                *rows.item_name[rows.gtin.notna()]
            }


def test_a_lake_that_teaches_too_little_merges_nothing(matcher, listed):
    few = listed[listed.chain_id == listed.chain_id.iloc[0]]
    run = learn_merger(matcher, few.head(150), link_codes(few.head(150)))
    assert run.merger is None and "nothing is merged" in run.message and run.figures.empty
    links = link_codes(listed)
    assert merge_items(None, None, listed, links).links.equals(links)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.sampled_from([0.8, 0.95]))
def test_the_threshold_holds_the_precision(rows, precision):
    score, right = (np.array(column) for column in zip(*rows, strict=True))
    taken = right[score >= find_threshold(score, right, precision)]
    ties = len(set(score)) < len(score)
    assert ties or not len(taken) or taken.mean() >= precision


# Dates, decisions, the way back

LINKS = st.dictionaries(st.sampled_from(["1", "2", "3", "4"]), st.sampled_from(["p", "q", "r"]), min_size=0, max_size=4)


def _links(said: dict[str, str]):
    rows = [dict(chain_id="A", item_code=c, product_id=p, method="name", score=0.9) for c, p in sorted(said.items())]
    return make_table("product_items", rows)


@settings(deadline=None, max_examples=80)
@given(st.lists(LINKS, max_size=5))
def test_history_tells_what_was_held_at_every_moment(days):
    history = make_table("product_links", [])
    for n, said in enumerate(days):
        history = date_links(history, _links(said), MONDAY + timedelta(days=n))
    for n, said in enumerate(days):
        for hours in (0, 5):
            held = find_links(history, MONDAY + timedelta(days=n, hours=hours))
            assert {k["item_code"]: k["product_id"] for k in held.to_pylist()} == said
    assert check_table("product_links", history).equals(history)
    assert find_links(history, MONDAY - timedelta(days=1)).num_rows == 0


@settings(deadline=None, max_examples=80)
@given(LINKS, LINKS)
def test_a_link_that_stays_keeps_its_day(first, second):
    history = date_links(make_table("product_links", []), _links(first), MONDAY)
    again = date_links(history, _links(second), MONDAY + timedelta(days=1)).to_pandas()
    for code in first.keys() & second.keys():
        began = again[(again.item_code == code) & again.valid_to.isna()].valid_from.iloc[0]
        assert (began == MONDAY) == (first[code] == second[code])


@pytest.fixture
def lake(tmp_path):
    place = open_lake(str(tmp_path / "lake"))
    rows = [
        ("A", "12", None, "עגבניה"),
        ("B", "704", None, "עגבניות"),
        ("C", "9", None, "מלפפון"),
        ("A", "13", None, "עגבניה שרי"),
    ]
    rows = [dict(zip(("chain_id", "item_code", "gtin", "item_name"), row, strict=True)) for row in rows]
    place.overwrite("items", make_table("items", rows))
    write_catalogue(place, make_lake_catalogue(place), MONDAY)
    return place


def _said(chain_id: str, item_code: str, product_id: str, is_same: bool) -> pd.DataFrame:
    return pd.DataFrame([dict(chain_id=chain_id, item_code=item_code, product_id=product_id, is_same=is_same)])


def _product(lake) -> dict[str, str]:
    return {k["item_code"]: k["product_id"] for k in lake.read("product_items").to_pylist()}


def test_what_a_person_says_stays_until_a_person_says_otherwise(lake):
    assert len(set(_product(lake).values())) == 4
    assert add_decisions(lake, _said("B", "704", "A:12", True), by="Noa", at=MONDAY) == 1
    assert add_decisions(lake, _said("B", "704", "A:12", True), by="Noa") == 0
    for _ in range(2):
        write_catalogue(lake, make_lake_catalogue(lake), MONDAY + timedelta(days=1))
        assert _product(lake)["704"] == _product(lake)["12"] != _product(lake)["13"]
    assert lake.read("products").num_rows == 3
    add_decisions(lake, _said("B", "704", "A:12", False), by="Dan", at=MONDAY + timedelta(days=2))
    write_catalogue(lake, make_lake_catalogue(lake), MONDAY + timedelta(days=3))
    assert len(set(_product(lake).values())) == 4 and lake.read("link_decisions").num_rows == 2


def test_links_can_be_taken_back_and_nothing_is_forgotten(lake):
    before = _product(lake)
    add_decisions(lake, _said("B", "704", "A:12", True), at=MONDAY)
    write_catalogue(lake, make_lake_catalogue(lake), MONDAY + timedelta(days=1))
    after, products = _product(lake), lake.read("products").num_rows
    assert take_back_links(lake, MONDAY, MONDAY + timedelta(days=2)) == 1
    assert _product(lake) == before and lake.read("products").num_rows == products + 1
    assert take_back_links(lake, MONDAY + timedelta(days=1), MONDAY + timedelta(days=3)) == 1
    assert _product(lake) == after
    with pytest.raises(LakeError, match="allowed: a moment"):
        take_back_links(lake, MONDAY - timedelta(days=1))


@pytest.mark.parametrize("row", [("Z", "704", "A:12"), ("B", "705", "A:12"), ("B", "704", "A:99")])
def test_a_decision_about_nothing_is_refused(lake, row):
    with pytest.raises(LakeError, match="does not list"):
        add_decisions(lake, _said(*row, True))
    assert lake.read("link_decisions").num_rows == 0


def test_a_filled_in_queue_is_read_and_a_bad_one_refused(tmp_path):
    path = tmp_path / "review.csv"
    path.write_text("﻿chain_id,item_code,product_id,is_same\nA,007,B:1,yes\nA,8,B:2,\nA,9,B:3,לא\n", encoding="utf-8")
    said = read_decisions(path)
    assert said.item_code.tolist() == ["007", "9"] and said.is_same.tolist() == [True, False]
    path.write_text("chain_id,item_code,product_id,is_same\nA,7,B:1,perhaps\n", encoding="utf-8")
    with pytest.raises(SourceError, match="perhaps"):
        read_decisions(path)
    path.write_text("chain_id,item_code\nA,7\n", encoding="utf-8")
    with pytest.raises(SourceError, match="missing: product_id, is_same"):
        read_decisions(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="UTF-8"):
        read_decisions(path)


def test_the_queue_is_laid_out_with_all_that_a_person_needs(tmp_path, matcher, listed):
    place = open_lake(str(tmp_path / "lake"))
    columns = ["chain_id", "item_code", "gtin", "item_name", "quantity", "unit", "is_weighted"]
    loose = listed[listed.gtin.isna() | listed.chain_id.isin(listed.chain_id.unique()[:4])]
    table = loose[columns].astype(object).where(loose[columns].notna(), None)
    place.overwrite("items", make_table("items", table.to_dict("records")))
    catalogue = make_lake_catalogue(place, matcher, precision=0.99)
    write_catalogue(place, catalogue, MONDAY)
    review = make_review(place)
    assert len(review) == len(catalogue.queue) > 0 and review.score.is_monotonic_decreasing
    assert (
        review[["item_name", "product_name", "chains", "reason"]].notna().all(axis=None)
        and (review.is_same == "").all()
    )
    review.loc[0, "is_same"] = "yes"
    review.to_csv(tmp_path / "review.csv", index=False)
    assert add_decisions(place, read_decisions(tmp_path / "review.csv"), by="Noa") == 1
    write_catalogue(place, make_lake_catalogue(place, matcher, precision=0.99))
    links = {(k["chain_id"], k["item_code"]): k for k in place.read("product_items").to_pylist()}
    mine, other = links[review.chain_id[0], review.item_code[0]], review.product_id[0]
    assert mine["method"] == "person"
    assert mine["product_id"] == (links[tuple(other.split(":"))]["product_id"] if ":" in other else other)


def test_what_a_person_has_parted_is_not_asked_again(tmp_path, matcher, listed, run):
    links = link_codes(listed)
    strict = replace(run.merger, threshold=0.995)
    queue = merge_items(matcher, strict, listed, links).queue.to_pandas()
    assert len(queue) > 20
    said = queue[["chain_id", "item_code", "product_id"]].assign(is_same=False, decided_at=MONDAY)
    again = merge_items(matcher, strict, listed, links, said).queue.to_pandas()
    asked = {*zip(queue.chain_id, queue.item_code, queue.product_id, strict=True)}
    assert not asked & {*zip(again.chain_id, again.item_code, again.product_id, strict=True)}


def test_loose_goods_of_one_name_are_one_and_packed_ones_are_not(matcher, run):
    def sure(names: list[str], prices: list[float], weighted: bool) -> float:
        rows = [("A", "1", names[0], prices[0], weighted), ("B", "2", names[1], prices[1], weighted)]
        table = pd.DataFrame(rows, columns=["chain_id", "item_code", "item_name", "price_ils", "is_weighted"])
        table = table.assign(gtin=None, manufacturer=None, quantity=1000.0, unit="g")
        asked = make_asked(table, link_codes(table))
        return score_claims(run.merger, make_evidence(asked, find_claims(matcher, asked))).max()

    assert sure(["עגבניה אשכול", "עגבניה אשכול"], [5.9, 6.9], True) == LOOSE_SCORE
    assert sure(["עגבניה אשכול", "עגבניה אשכול"], [5.9, 19.9], True) < LOOSE_SCORE  # worlds apart
    assert sure(["עגבניה אשכול", "עגבניה שרי"], [5.9, 6.9], True) < LOOSE_SCORE
    assert sure(["קמח שקדים", "קמח שקדים"], [5.9, 6.9], False) < LOOSE_SCORE
