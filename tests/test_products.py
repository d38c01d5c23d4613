"Products: no leakage between parts, honest figures, models that survive saving, matches that never mix what differs."

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocery.errors import SourceError
from grocery.products.embed import (
    Embedder,
    fit_embedder,
    make_grams,
    make_sentence_transformer,
    make_untrained,
    read_embedder,
    write_embedder,
)
from grocery.products.match import find_best_name, find_doubtful_codes, link_codes, make_products
from grocery.products.names import find_conflicts, fold_name, make_attributes, parse_pack_count, parse_percents
from grocery.products.pairs import (
    make_hard_negatives,
    make_names,
    make_pairs,
    make_retrieval_task,
    make_split,
    read_names,
    read_training_names,
)
from grocery.products.scores import find_ranks, fit_tfidf, score_ranks, score_retrieval
from grocery.products.train import fit_similarity
from grocery.sample import products as market
from grocery.sample.products import add_check_digit
from grocery.tables import check_table

NAME = st.lists(
    st.sampled_from(
        ["חלב", "3%", "%", "1.5", "*", "6", "ליטר", "80ג'", "Zero", "שישיית", "x", "(", '"', "\u200f", "250 גרם", "½"]
    ),
    max_size=7,
).map(" ".join)
TEXT = st.one_of(NAME, st.text(max_size=25))


@pytest.fixture(scope="module")
def names(items) -> pd.DataFrame:
    return make_names(items)


@pytest.fixture(scope="module")
def triplets(names) -> pd.DataFrame:
    pairs = make_pairs(names)
    return make_hard_negatives(pairs[pairs.split == "train"], k=2)


@pytest.fixture(scope="module")
def taught(names) -> pd.DataFrame:
    return names[make_split(names.gtin) == "train"]


@pytest.fixture(scope="module")
def embedder(taught) -> Embedder:
    return fit_embedder(taught, dimensions=48, epochs=3)


# Names


@given(TEXT)
def test_any_text_has_attributes(text):
    said = make_attributes(text)
    assert all(0 <= p <= 100 for p in said.percents) and list(said.percents) == sorted(set(said.percents))
    assert (said.quantity is None) == (said.unit is None) and (said.pack_count is None or said.pack_count > 1)
    assert find_conflicts(said, said) == []
    assert make_grams(text) == make_grams(fold_name(text))


@given(TEXT, TEXT)
def test_conflicts_are_mutual(one, other):
    a, b = make_attributes(one), make_attributes(other)
    assert find_conflicts(a, b) == find_conflicts(b, a)


@pytest.mark.parametrize(
    ("name", "percents", "pack"),
    [
        ("חלב 3% 1 ליטר", (3.0,), None),
        ("גבינה %9 250 גרם", (9.0,), None),
        ("חלב 3%1 ליטר", (3.0,), None),
        ("בירה 4.9% 6x330ml", (4.9,), 6),
        ("מים 1.5*6 ליטר", (), 6),
        ("יוגורט 1,5% 8*150 גר'", (1.5,), 8),
        ("שישיית קולה 1.5 ליטר", (), 6),
        ("סלט 100*100", (), 100),
        ("מצעים 160X200", (), 160),
    ],
)
def test_percent_and_pack(name, percents, pack):
    assert parse_percents(name) == percents and parse_pack_count(name) == pack


@pytest.mark.parametrize(("change", "what"), [("1%", "percent"), ('500 מ"ל', "quantity"), ("6*1 ליטר", "pack")])
def test_a_changed_attribute_is_a_conflict(change, what):
    base = make_attributes("חלב נועמית 3% 2*1 ליטר")
    other = {"percent": f"חלב נועמית {change} 2*1 ליטר"}.get(what, f"חלב נועמית 3% {change}")
    assert what in find_conflicts(base, make_attributes(other))
    assert not find_conflicts(base, make_attributes("2*1ל נועמית חלב 3 %"))


# Parts and pairs


def test_no_barcode_stands_in_two_parts(names):
    pairs = make_pairs(names)
    assert (pairs.groupby("gtin").split.nunique() == 1).all() and set(pairs.split) == {"train", "validation", "test"}
    asked = {split: set(make_retrieval_task(names, split)[0].gtin) for split in ("validation", "test")}
    trained = set(pairs[pairs.split == "train"].gtin)
    assert asked["test"] and not asked["test"] & asked["validation"]
    assert not trained & (asked["test"] | asked["validation"])


def test_part_does_not_depend_on_the_company(names):
    some = names.gtin.drop_duplicates().sample(40, random_state=1)
    assert (make_split(names.gtin)[some.index] == make_split(some)).all()
    assert (make_split(some, 1) != make_split(some, 2)).any()


def test_positives_differ_in_chain_and_name_and_agree_in_barcode(names):
    pairs, known = make_pairs(names), set(names.itertuples(index=False, name=None))
    assert (pairs.chain_a != pairs.chain_b).all()
    assert (pairs.name_a.map(fold_name) != pairs.name_b.map(fold_name)).all()
    for side in "ab":
        assert set(zip(pairs.gtin, pairs[f"chain_{side}"], pairs[f"name_{side}"], strict=True)) <= known
    assert pairs.groupby("gtin").size().max() <= 6


def test_hard_negatives_never_share_a_barcode_or_a_spelling(names, triplets):
    assert len(triplets) and (triplets.gtin != triplets.negative_gtin).all()
    spelled = names.assign(text=names.item_name.map(fold_name)).groupby("gtin").text.agg(set)
    assert not any(fold_name(n) in spelled[g] for g, n in zip(triplets.gtin, triplets.negative, strict=True))
    parts = make_split(pd.concat([triplets.gtin, triplets.negative_gtin], ignore_index=True))
    assert set(parts) == {"train"}


def test_one_text_under_two_barcodes_is_no_negative():
    rows = [
        ("1", "A", "חלב טרי"),
        ("1", "B", "חלב טרי שקית"),
        ("2", "A", "חלב  טרי"),
        ("2", "B", "חלב בקבוק"),
        ("3", "A", "חלבה"),
        ("3", "B", "חלבה ביתית"),
    ]
    pairs = make_pairs(pd.DataFrame(rows, columns=["gtin", "chain_id", "item_name"])).assign(split="train")
    negatives = make_hard_negatives(pairs, k=6)
    assert "חלב  טרי" not in set(negatives[negatives.gtin == "1"].negative)


def test_rows_in_another_order_give_the_same_pairs(names):
    shuffled = names.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(make_pairs(names), make_pairs(shuffled))
    for one, other in zip(make_retrieval_task(names, "test"), make_retrieval_task(shuffled, "test"), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_every_question_has_its_answer_once(names):
    queries, candidates = make_retrieval_task(names, "test")
    assert candidates.gtin.is_unique and set(queries.gtin) <= set(candidates.gtin) and queries.gtin.is_unique
    both = queries.merge(candidates, on="gtin", suffixes=("", "_found"))
    assert (both.chain_id != both.chain_id_found).all()


# Figures by hand


def test_ranks_by_hand():
    scores = np.array([[0.9, 0.1, 0.5], [0.3, 0.3, 0.1], [0.2, 0.8, 0.1], [0.5, 0.5, 0.5]])
    assert find_ranks(scores, np.array([0, 1, 2, 0])).tolist() == [1, 2, 3, 3]


def test_rank_figures_by_hand():
    figures = score_ranks(np.array([1, 2, 4, 20])).set_index("metric").value
    assert (
        figures["recall@1"] == 0.25
        and figures["recall@10"] == 0.75
        and figures["mrr"] == pytest.approx((1 + 0.5 + 0.25 + 0.05) / 4)
    )


def test_intervals_hold_the_value_and_shrink_with_rows():
    few, many = (score_ranks(np.tile([1, 2, 5, 11], n)).set_index("metric") for n in (5, 200))
    assert ((few.low <= few.value) & (few.value <= few.high)).all()
    assert ((many.high - many.low) < (few.high - few.low)).all()


def test_gain_of_a_model_over_itself_is_nothing(names):
    queries, candidates = make_retrieval_task(names, "test")
    tfidf = fit_tfidf(candidates.item_name.tolist())
    table = score_retrieval({"one": tfidf, "same": tfidf}, queries, candidates).set_index(["model", "metric"])
    assert table.loc[("same", "mrr_gain"), ["value", "low", "high"]].tolist() == [0, 0, 0]
    shuffled = score_retrieval({"one": tfidf}, queries, candidates.sample(frac=1, random_state=1)).set_index(
        ["model", "metric"]
    )
    assert shuffled.value["one", "mrr"] == pytest.approx(table.value["one", "mrr"])


# Models


def test_numpy_serves_what_sentence_transformers_trained(embedder, names):
    some = names.item_name.head(60).tolist()
    pieces = [" ".join(g for g in make_grams(n) if g in embedder.vocabulary) or "[UNK]" for n in some]
    encoded = make_sentence_transformer(embedder).encode(pieces, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(embedder(some), encoded, atol=1e-5)


def test_training_is_deterministic_and_listens_to_the_seed(taught, embedder):
    again = fit_embedder(taught, dimensions=48, epochs=3)
    assert (again.vectors == embedder.vectors).all() and again.vocabulary == embedder.vocabulary
    other = fit_embedder(taught, dimensions=48, epochs=1, seed=8)
    assert (other.vectors != embedder.vectors).any()


def test_training_beats_tfidf_on_unseen_barcodes():
    products = market.make_products(360)
    run = fit_similarity(
        make_names(market.make_items(products).merge(products[["product_id", "gtin"]], on="product_id"))
    )
    test = run.metrics.set_index(["model", "metric"])
    assert test.value["matcher", "mrr_gain"] > 0
    assert run.metrics[run.metrics.is_chosen].model.unique().tolist() == ["matcher"]


def test_embedder_survives_saving(embedder, names, tmp_path):
    some = names.item_name.tolist()
    whole = read_embedder(write_embedder(embedder, tmp_path / "whole", "float32"))
    assert (whole(some) == embedder(some)).all() and whole.about == embedder.about
    small = read_embedder(write_embedder(embedder, tmp_path / "small"))
    assert (small(some) * embedder(some)).sum(axis=1).min() > 0.999, "one byte a number is enough"
    assert (tmp_path / "small" / "vectors.npy").stat().st_size < 0.3 * (
        tmp_path / "whole" / "vectors.npy"
    ).stat().st_size


def test_a_shortened_embedding_is_its_beginning(embedder):
    rows = embedder(["חלב 3% 1 ליטר", "Milk 3% 1 L"], dimensions=24)
    assert rows.shape == (2, 24) and np.allclose(np.linalg.norm(rows, axis=1), 1)
    whole = embedder(["חלב 3% 1 ליטר", "Milk 3% 1 L"])[:, :24]
    np.testing.assert_allclose(rows, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)


def test_a_saved_embedder_needs_neither_torch_nor_sklearn(embedder, tmp_path):
    write_embedder(embedder, tmp_path)
    code = (
        "import sys; from grocery.products.embed import read_embedder;"
        f"print(read_embedder({str(tmp_path)!r})(['חלב 3%']).shape, sorted({{'torch', 'sklearn', 'sentence_transformers'}} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "(1, 48) []"


@pytest.mark.parametrize("read", [read_embedder])
def test_a_folder_that_is_no_model_is_one_clear_error(read, tmp_path):
    with pytest.raises(SourceError, match="allowed"):
        read(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(SourceError, match="allowed"):
        read(tmp_path)


@given(TEXT)
def test_vectors_are_unit_or_nothing(text):
    model = make_untrained(["חלב 3% 1 ליטר", "חלב 1% 1 ליטר"], 16)
    assert np.linalg.norm(model([text])) == pytest.approx(1, abs=1e-4)


# Matching


def _item(chain: str, code: str, gtin: str | None, name: str | None, **more) -> dict:
    return {
        "chain_id": chain,
        "item_code": code,
        "gtin": gtin,
        "item_name": name,
        "manufacturer": None,
        "quantity": None,
        "unit": None,
    } | more


def _made(rows: list[dict]):
    return make_products(pd.DataFrame(rows), link_codes(pd.DataFrame(rows)))


def test_products_keep_their_contracts_and_every_item_has_one(items):
    table = items.assign(manufacturer="יצרן", quantity=1.0, unit="piece")
    links = link_codes(table)
    products = make_products(table, links)
    assert check_table("products", products).equals(products) and check_table("product_items", links).equals(links)
    ids = products["product_id"].to_pylist()
    assert len(ids) == len(set(ids)) and set(links["product_id"].to_pylist()) == set(ids) and len(links) == len(items)


def test_links_agree_with_the_planted_truth(items):
    linked = link_codes(items).to_pandas().merge(items, on=["chain_id", "item_code"])
    by_gtin = linked[linked.method == "gtin"]
    assert (by_gtin.groupby("product_id_x").product_id_y.nunique() == 1).all()
    assert (by_gtin.groupby("product_id_y").product_id_x.nunique() == 1).all()


def test_own_codes_never_meet_across_chains():
    rows = [_item("A", "12", None, "בננה"), _item("B", "12", None, "בננה"), _item("A", "7", "", "מלפפון")]
    links = link_codes(pd.DataFrame(rows))
    assert len(set(links["product_id"].to_pylist())) == 3 and set(links["method"].to_pylist()) == {"own_code"}


def test_own_numbers_that_pass_for_barcodes_do_not_merge_beetroot_and_peach():
    plain = [f"72900000{n:04d}" for n in range(1, 60)]
    right = [add_check_digit(c) for c in plain]
    wrong = [c[:12] + str((int(c[12]) + 1) % 10) for c in right]
    codes = [r if n % 10 == 0 else w for n, (r, w) in enumerate(zip(right, wrong, strict=True))]
    own = [_item(chain, code, code if code in right else None, "סלק") for chain in "AB" for code in codes]
    real = [_item(chain, code, code, "במבה 80 גרם") for chain in "AB" for code in [add_check_digit("729010012345")]]
    frame = pd.DataFrame(own + real)
    code, same = right[0], right[10]
    frame.loc[(frame.chain_id == "B") & (frame.item_code == code), "item_name"] = "אפרסק"
    assert find_doubtful_codes(frame) == {*right[::10]}
    product = link_codes(frame).to_pandas().set_index(["chain_id", "item_code"]).product_id
    assert product["A", code] == f"A:{code}" and product["B", code] == f"B:{code}"  # the names share nothing
    assert product["A", same] == product["B", same] == same  # doubtful, yet the names agree
    assert product["A", real[0]["item_code"]] == product["B", real[0]["item_code"]] == real[0]["item_code"]


def test_a_product_always_has_a_name_where_an_item_has():
    rows = [
        _item("A", "1", "g1", "Fizzy Cola בקבוק"),
        _item("A", "2", "g2", "770"),
        _item("A", "3", "g3", "Fizzy Cola"),
        _item("A", "4", "g4", None),
    ]
    products = _made(rows).to_pandas().set_index("product_id")
    named = products.name_hebrew.notna() | products.name_english.notna()
    assert (
        named.to_dict() == {"g1": True, "g2": True, "g3": True, "g4": False}
        and products.name_hebrew["g1"] == "Fizzy Cola בקבוק"
    )


def test_quantity_and_brand_are_what_most_chains_say():
    said = [("A", 250.0, "נועמית"), ("B", 250.0, "לא ידוע"), ("C", 2500.0, "נועמית"), ("D", None, "שדמון")]
    rows = [
        _item(c, "1", "g", "גבינה 200 גרם", quantity=q, unit="g" if q else None, manufacturer=m) for c, q, m in said
    ]
    product = _made(rows).to_pylist()[0]
    assert (product["quantity"], product["unit"], product["brand"]) == (250.0, "g", "נועמית")


@given(st.lists(TEXT, max_size=5))
def test_best_name_is_one_of_the_spellings(spelled):
    for hebrew in (True, False):
        found = find_best_name(spelled, hebrew)
        assert found is None or (found == " ".join(found.split()) and any("א" <= c <= "ת" for c in found) == hebrew)


# Where there is nothing


def test_nothing_to_learn_from_is_said_and_not_raised(tmp_path):
    assert read_training_names().empty
    assert (
        "not enough" in fit_similarity(read_training_names()).message
        and fit_similarity(read_training_names()).matcher is None
    )
    assert read_training_names(lake=str(tmp_path / "none")).empty
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", ["", "{}\n", "[1]\n", "no json\n", '{"barcode": "1", "names": 3}\n'])
def test_strange_files_are_one_clear_error_or_empty(content, tmp_path):
    (tmp_path / "pairs.jsonl").write_text(content)
    if not content:
        assert read_names(tmp_path / "pairs.jsonl").empty
        return
    with pytest.raises(SourceError, match="allowed"):
        read_names(tmp_path / "pairs.jsonl")
    with pytest.raises(SourceError, match="allowed"):
        read_training_names(truth=str(tmp_path / "nowhere"))


# Real names


@pytest.fixture(scope="module")
def real_names(real_names) -> pd.DataFrame:
    "Seven hundred real barcodes as chains spell them."
    return real_names[real_names.gtin.isin(pd.Series(real_names.gtin.unique()).sample(700, random_state=1))]


@pytest.mark.realdata
def test_real_names_are_found_about_as_well_as_by_tfidf(real_names):
    "Some hundred barcodes are too few to beat TF-IDF on real names; this catches a model or a baseline that is broken."
    run = fit_similarity(real_names, epochs=2)
    test = run.metrics[run.metrics.split == "test"].set_index(["model", "metric"])
    assert test.value["tfidf", "recall@10"] > 0.85 and test.value["static_ngram", "recall@10"] > 0.85
    assert test.high["static_ngram", "mrr_gain"] > -0.02


@pytest.mark.realdata
def test_attributes_part_real_neighbours_more_than_real_twins(real_names):
    pairs = make_pairs(real_names, limit=1)
    negatives = make_hard_negatives(pairs)

    def share(one: pd.Series, other: pd.Series) -> float:
        return np.mean(
            [bool(find_conflicts(make_attributes(a), make_attributes(b))) for a, b in zip(one, other, strict=True)]
        )

    assert share(pairs.name_a, pairs.name_b) < 0.06 < 0.1 < share(negatives.anchor, negatives.negative)
