"Categories: honest figures, models that survive saving, sets that hold the truth, answers that know when to be silent."

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import SourceError
from grocery.products.answers import (
    choose_arm,
    drop_catch_alls,
    fit_conformal,
    make_fingerprint,
    make_labels,
    make_sets,
    read_labels,
    read_training_labels,
    score_calibration,
    score_confident,
    score_difference,
    score_macro_f1,
    split_labels,
    weigh_names,
)
from grocery.products.catalogue import make_lake_catalogue, write_catalogue
from grocery.products.classify import (
    Classifier,
    classify_file,
    count_pieces,
    make_rules_classifier,
    predict_categories,
    read_classifier,
    write_classifier,
)
from grocery.products.embed import Embedder, fit_embedder
from grocery.products.learn import (
    choose_classifier,
    compare_classifiers,
    fit_categories,
    fit_classifiers,
    make_card,
    score_classifier,
    score_unseen_chain,
)
from grocery.products.pairs import make_names
from grocery.products.scores import make_metric_names
from grocery.sample import products as market
from grocery.store.lake import open_lake

KINDS = ["majority", "rules", "linear_svc", "random_forest", "lightgbm", "xgboost", "ensemble"]


@pytest.fixture(scope="module")
def labels(items) -> pd.DataFrame:
    return split_labels(make_labels(items.assign(product_id=items.gtin.fillna(items.product_id))))


@pytest.fixture(scope="module")
def embedder(items) -> Embedder:
    return fit_embedder(make_names(items), dimensions=32, epochs=2)


@pytest.fixture(scope="module")
def models(labels, embedder) -> dict:
    return fit_classifiers(labels, embedder, trials=1)


@pytest.fixture(scope="module")
def run():
    products = market.make_products(400)
    items = market.make_items(products).merge(products[["product_id", "category"]], on="product_id")
    return fit_categories(make_labels(items), trials=0)


# Labels


def test_parts_share_neither_product_nor_name(labels):
    for key in (labels.product_id, labels.item_name):
        assert labels.groupby(key).split.nunique().max() == 1
    assert set(labels.split) == {"train", "validation", "test"}
    assert weigh_names(labels.product_id).sum() == pytest.approx(labels.product_id.nunique())


def test_catch_alls_are_left_out_and_never_answered():
    rows = pd.DataFrame(
        {"product_id": list("abcd"), "item_name": list("abcd"), "category": ["כללי", "אחר ", "Other", "dairy"]}
    )
    assert drop_catch_alls(rows).category.tolist() == ["dairy"]


@pytest.mark.parametrize("content", ["{}\n", "[1]\n", "no json\n", '{"barcode": "1", "names": 3}\n'])
def test_strange_label_files_are_one_clear_error(content, tmp_path):
    (tmp_path / "labels.jsonl").write_text(content)
    with pytest.raises(SourceError, match="allowed"):
        read_labels(tmp_path / "labels.jsonl")


def test_figures_are_compared_only_on_the_same_labels(labels):
    "A model is measured against the champion where the fingerprint is the same: neither order nor other columns count, one label, name or seed does."
    mark = make_fingerprint(labels)
    assert make_fingerprint(labels.sample(frac=1, random_state=1).drop(columns="split")) == mark
    for column in ("product_id", "item_name", "category"):
        other = labels.copy()
        other.loc[other.index[0], column] = "another"
        assert make_fingerprint(other) != mark
    assert len({mark, make_fingerprint(labels, 8), make_fingerprint(labels.iloc[1:])}) == 3


# Figures


def test_macro_f1_by_hand():
    truth, said = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 1])
    assert score_macro_f1(truth, said) == pytest.approx((4 / 6 + 2 / 5 + 0) / 3)
    assert score_macro_f1(np.array([0, 0]), np.array([0, -1])) == pytest.approx(2 / 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=30))
def test_macro_f1_agrees_with_sklearn(rows):
    from sklearn.metrics import f1_score

    truth, said, weights = np.array(rows).T
    expected = f1_score(truth, said, average="macro", labels=np.unique(truth), zero_division=0, sample_weight=weights)
    assert score_macro_f1(truth, said, weights.astype(float)) == pytest.approx(expected)


def test_calibration_by_hand():
    assert score_calibration(np.array([True, False]), np.array([0.5, 0.5])) == 0
    right, sure = np.array([True, True, False]), np.array([0.95, 1.0, 0.15])
    assert score_calibration(right, sure) == pytest.approx(2 / 3 * 0.025 + 1 / 3 * 0.15)
    assert score_confident(np.array([True, False]), np.array([0.9, 0.2])) == 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(0.6, 0.95))
def test_sets_hold_the_truth_as_often_as_promised(classes, seed, coverage):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, 3000)
    scores = rng.normal(size=(3000, classes)) + np.eye(classes)[truth] * rng.uniform(0, 3)
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    inside = make_sets(chances[1500:], fit_conformal(chances[:1500], truth[:1500], coverage))
    assert inside[np.arange(1500), truth[1500:]].mean() > coverage - 0.05
    assert inside.any(axis=1).all()


def test_mcnemar_agrees_with_the_binomial_test():
    from scipy.stats import binomtest

    rng = np.random.default_rng(1)
    for share in (0.5, 0.6, 0.8):
        a, b = rng.random(200) < 0.7, rng.random(200) < share
        found = score_difference(a, b, repeats=50)
        expected = binomtest(found["only_a"], found["only_a"] + found["only_b"]).pvalue
        assert found["p_value"] == pytest.approx(expected) and found["low"] <= found["difference"] <= found["high"]
    assert score_difference(a, a)["p_value"] == 1.0


def test_arms_are_steady_and_keep_their_share():
    keys = [f"user {i}" for i in range(5000)]
    dealt = [choose_arm(k, 0.3) for k in keys]
    assert dealt == [choose_arm(k, 0.3) for k in keys]
    assert np.mean([d == "challenger" for d in dealt]) == pytest.approx(0.3, abs=0.03)
    assert {choose_arm(k, 0.0) for k in keys} == {"champion"} and {choose_arm(k, 1.0) for k in keys} == {"challenger"}


# Models


@pytest.mark.parametrize("kind", KINDS)
def test_classifier_survives_saving(models, labels, kind, tmp_path):
    asked = [*labels.item_name, "", "qqq zzz", "12"]
    folder = write_classifier(models[kind], tmp_path / kind)
    again = read_classifier(folder)
    np.testing.assert_array_equal(again.confidences(asked), models[kind].confidences(asked))
    pd.testing.assert_frame_equal(predict_categories(again, asked), predict_categories(models[kind], asked))
    assert not list(folder.rglob("*.pkl"))
    assert json.loads((folder / "model.json").read_text("utf-8"))["versions"]["numpy"] == np.__version__


def test_a_folder_that_is_no_model_is_one_clear_error(tmp_path):
    with pytest.raises(SourceError, match="allowed"):
        read_classifier(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(SourceError, match="allowed"):
        read_classifier(tmp_path)


def test_a_saved_ensemble_needs_neither_sklearn_nor_scipy(models, tmp_path):
    write_classifier(models["ensemble"], tmp_path)
    code = (
        "import sys; from grocery.products.classify import predict_categories, read_classifier;"
        f"said = predict_categories(read_classifier({str(tmp_path)!r}), ['חלב 3%']);"
        "print(said.category[0], sorted({'scipy', 'sklearn', 'lightgbm', 'xgboost', 'torch'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "dairy []"


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("majority", "rules")])
def test_models_beat_the_majority_and_are_silent_on_nonsense(models, labels, kind):
    test = labels[labels.split == "test"]
    figures = {k: score_classifier(models[k], test, repeats=50).set_index("metric") for k in (kind, "majority")}
    assert figures[kind].low["macro_f1"] > figures["majority"].high["macro_f1"]
    answers = predict_categories(models[kind], ["", "§§§", "\u0416\u0416"])
    assert answers.category.isna().all() and (answers.confidence == 0).all() and answers["set"].map(len).sum() == 0
    np.testing.assert_allclose(models[kind].confidences(test.item_name.tolist()).sum(axis=1), 1, atol=1e-5)


def test_clean_labels_are_learned_well(run):
    figures = run.metrics[(run.metrics.split == "test") & run.metrics.is_chosen].set_index("metric").value
    assert figures["macro_f1"] >= 0.95 and figures["set_coverage"] >= 0.85
    assert "## Limits" in make_card(run, "the sample market") and run.difference["n"] == run.test.product_id.nunique()


def test_shuffled_categories_cannot_be_learned(labels):
    "If figures were taken from training rows, or parts leaked, this would look fine."
    products = labels.drop_duplicates("product_id").set_index("product_id").category
    mixed = pd.Series(products.sample(frac=1, random_state=5).to_numpy(), index=products.index)
    nonsense = labels.assign(category=labels.product_id.map(mixed))
    models = fit_classifiers(nonsense, trials=0)
    test = nonsense[nonsense.split == "test"]
    for kind in ("linear_svc", "ensemble"):
        assert score_classifier(models[kind], test, repeats=2).set_index("metric").value["accuracy"] < 0.35


def test_the_simplest_of_equals_is_chosen(models, labels):
    twice = {"first": models["linear_svc"], "second": models["linear_svc"]}
    assert choose_classifier(twice, labels) == "first"
    assert choose_classifier({"majority": models["majority"], "svc": models["linear_svc"]}, labels) == "svc"
    test = labels[labels.split == "test"]
    assert compare_classifiers(models["majority"], models["ensemble"], test)["low"] > 0


def test_category_figures_are_deterministic(labels):
    rows = labels[["product_id", "item_name", "category"]]
    one, other = (fit_categories(part, trials=0) for part in (rows, rows.sample(frac=1, random_state=1)))
    pd.testing.assert_frame_equal(one.metrics, other.metrics)


def make_two_chains(products: int = 240) -> tuple[pd.DataFrame, pd.DataFrame]:
    "Labelled names, and who writes them: chain `plain` names the kind, chain `coded` has a code for it, both name the product."
    rng, kinds = np.random.default_rng(3), ["milk", "bread", "soap", "juice"]
    rows = []
    for number in range(products):
        kind, own = kinds[number % 4], "".join(rng.choice(list("abcdefghijklmnopqrstuvw"), 9))
        code = ("zzx", "xyz", "yxx", "xzy")[number % 4]
        rows += [(str(number), "plain", f"{kind} {own}", kind), (str(number), "coded", f"{code} {own}", kind)]
    names = pd.DataFrame(rows, columns=["gtin", "chain_id", "item_name", "category"])
    return make_labels(names.rename(columns={"gtin": "product_id"})), names.drop(columns="category")


def test_nothing_is_learned_from_the_chain_that_is_held_out():
    "Had its codes or the test products' other names been learned, all answers were right; without them one in four is."
    labels, names = make_two_chains()
    figures = score_unseen_chain(labels, names, "coded", seed=1).set_index("metric")
    test = split_labels(labels, 1).query("split == 'test'")
    assert set(figures.model) == {"ensemble without coded"} and set(figures.n) == {test.product_id.nunique()}
    assert figures.value["accuracy"] < 0.5


def test_a_chain_that_writes_like_the_others_is_understood():
    labels, names = make_two_chains()
    kind = names.item_name.str.split().str[0]
    third = names[kind.isin(["milk", "bread", "soap", "juice"])].assign(chain_id="turned")
    third["item_name"] = third.item_name.str.split().map(lambda w: f"{w[1]} {w[0]}")
    told = third.rename(columns={"gtin": "product_id"}).merge(labels[["product_id", "category"]].drop_duplicates())
    every = make_labels(pd.concat([labels, told]))
    figures = score_unseen_chain(every, pd.concat([names, third]), "turned", seed=1).set_index("metric")
    assert figures.value["accuracy"] > 0.95
    assert all(re.fullmatch(r"[\w\-./: ]+", name) for name in make_metric_names(figures.reset_index())), (
        "MLflow refuses others"
    )
    most = score_unseen_chain(every, pd.concat([names[::3], third]), seed=1)
    assert set(most.model) == {"ensemble without turned"}
    assert score_unseen_chain(every, names, "nobody").empty and score_unseen_chain(every, names.head(0)).empty


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_has_pieces_and_an_answer(text):
    counted = count_pieces(text)
    assert set(counted) == set("cwrsp") and all(p[0] == kind for kind in counted for p in counted[kind])
    said = predict_categories(make_rules_classifier(), [text])
    assert 0 <= said.confidence[0] <= 1 and (said.category[0] is None or said.category[0] in said["set"][0])


def test_one_name_is_answered_alone_as_among_others(models):
    names = ["חלב 3% 1 ליטר", "", "חיתולים מידה 4", "Potato Chips 50g"] * 3
    many = predict_categories(models["ensemble"], names)
    for i, name in enumerate(names[:4]):
        pd.testing.assert_frame_equal(
            predict_categories(models["ensemble"], [name]), many.iloc[[i]].reset_index(drop=True)
        )


# Files and the lake


@pytest.mark.parametrize("source", ["names.csv", "names.jsonl", "names.parquet", "names.txt"])
@pytest.mark.parametrize("target", ["said.csv", "said.jsonl", "said.parquet"])
def test_whole_files_in_chunks(source, target, tmp_path):
    names = ["חלב 3%", "", "לחם אחיד", "§", "Potato Chips", "שמפו, לשיער", "מים"]
    table, path = pd.DataFrame({"item_name": names}), tmp_path / source
    {
        "csv": lambda: table.to_csv(path, index=False),
        "parquet": lambda: table.to_parquet(path),
        "txt": lambda: path.write_text("\n".join(names), "utf-8"),
    }.get(path.suffix[1:], lambda: table.to_json(path, orient="records", lines=True, force_ascii=False))()
    model = make_rules_classifier()
    assert classify_file(path, tmp_path / target, model, rows=3)["rows"] == len(names)
    read = {
        "csv": lambda p: pd.read_csv(p, keep_default_na=False),
        "parquet": pd.read_parquet,
        "jsonl": lambda p: pd.read_json(p, lines=True),
    }
    said = read[target.split(".")[1]](tmp_path / target)
    expected = predict_categories(model, names).category.fillna("").tolist()
    assert said.category.fillna("").tolist() == expected and said.item_name.tolist() == names
    with pytest.raises(SourceError, match="allowed"):
        classify_file(tmp_path / "none.csv", tmp_path / target, model)


def test_nothing_to_learn_from_is_said_and_not_raised():
    assert read_training_labels().empty and "not enough" in fit_categories(read_training_labels()).message


def test_products_reach_the_lake(items, run, tmp_path):
    from grocery.tables import TABLES

    schema = TABLES["items"].schema
    rows = items.drop(columns=["product_id", "category"])
    for column in schema.names:
        rows[column] = rows[column] if column in rows else None
    lake = open_lake(tmp_path / "lake")
    lake.overwrite("items", pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False))
    made = write_catalogue(lake, make_lake_catalogue(lake, None, run.model)).set_index("measure").value
    assert lake.sql("SELECT count(*) AS n FROM products").to_pylist()[0]["n"] == made["products"]
    assert made["items"] == len(items) and made["products with a category"] > 0.9 * made["products"]


# Real names


@pytest.mark.realdata
def test_rules_and_a_small_model_on_real_labels(realdata):
    "A fifth of the labelled products is enough to beat the rules; figures at full size stand in the model's card."
    labels = drop_catch_alls(read_labels(realdata / "derived" / "category_labelled_names.jsonl.gz", "supermarket"))
    some = labels[labels.product_id.isin(pd.Series(labels.product_id.unique()).sample(1200, random_state=1))]
    models = fit_classifiers(split_labels(some), trials=0)
    test = split_labels(some).query("split == 'test'")
    figures = {
        k: score_classifier(models[k], test, repeats=2).set_index("metric").value
        for k in ("majority", "rules", "ensemble")
    }
    assert figures["ensemble"]["accuracy"] > figures["rules"]["accuracy"] - 0.03 > figures["majority"]["accuracy"] + 0.3
    assert type(models["ensemble"]) is Classifier and figures["ensemble"]["ece"] < 0.12
