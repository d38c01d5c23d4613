"Linking: what is accepted never conflicts, answers do not depend on company or order, models survive saving, hostile lists are survived."

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import GroceryError, SourceError
from grocery.models import find_model
from grocery.products import train
from grocery.products.alike import KINDS, make_figures, make_view
from grocery.products.link import (
    Matcher,
    _is_late,
    find_candidates,
    link_names,
    make_answers,
    make_changed_pairs,
    make_hard_pairs,
    measure_pairs,
    read_matcher,
    write_matcher,
)
from grocery.products.names import find_conflicts, fold_name, make_attributes
from grocery.products.pairs import make_bilingual_names, make_list_task, make_names, make_split, read_list, read_words
from grocery.products.train import (
    PARTS,
    WORD_PARTS,
    find_twins,
    fit_similarity,
    make_card,
    make_score,
    score_changes,
    score_decisions,
    tune_embedder,
)
from grocery.sample import products as market


def make_market(products: int, seed: int) -> pd.DataFrame:
    "The names of a sample market's barcodes."
    shelf = market.make_products(products, seed=seed)
    return make_names(market.make_items(shelf, seed).merge(shelf[["product_id", "gtin"]], on="product_id"))


@pytest.fixture(scope="module")
def names() -> pd.DataFrame:
    return make_market(500, 11)


@pytest.fixture(scope="module")
def known() -> pd.DataFrame:
    "The names that `make models` makes the bundled model of."
    return make_market(600, 7)


@pytest.fixture(scope="module")
def unseen(known) -> pd.DataFrame:
    "Those of them that the bundled model was judged on: neither its embedding nor its trees have learned from them."
    return known[make_split(known.gtin, 7, PARTS) == "test"]


@pytest.fixture(scope="module")
def bundled() -> Matcher:
    "The model that travels with the package."
    return read_matcher(find_model("similarity@bundled"))


SHELF = ["חלב נועמית 3% 1 ליטר", "חלב נועמית 1% 1 ליטר", "קוטג' נועמית 5% 250 גרם", "בוטנית חטיף בוטנים 80 גרם", ""]
TEXT = st.one_of(st.sampled_from(SHELF), st.text(max_size=30))


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXT, max_size=6), st.lists(TEXT, max_size=6), st.integers(1, 4))
def test_any_two_lists_are_linked_and_nothing_accepted_conflicts(bundled, queries, candidates, top):
    links = link_names(bundled, queries, candidates, top)
    assert links.groupby("query").size().max() <= top if len(links) else True
    assert links.score.between(0, 1).all() and links.candidate.between(0, max(len(candidates) - 1, 0)).all()
    assert len(make_answers(links, len(queries))) == len(queries)
    for row in links[links.accepted].itertuples():
        assert not find_conflicts(make_attributes(queries[row.query]), make_attributes(candidates[row.candidate]))
        assert fold_name(queries[row.query]) and fold_name(candidates[row.candidate]), "nothing is no product"


def test_a_score_belongs_to_its_pair_alone(bundled, names):
    queries, candidates = names.item_name.tolist()[:20], names.item_name.tolist()[20:320]
    links = link_names(bundled, queries, candidates, 5)
    for row in links.sample(20, random_state=3).itertuples():
        alone = link_names(bundled, [queries[row.query]], [candidates[row.candidate]], 1).iloc[0]
        assert (alone.score, alone.accepted) == (row.score, row.accepted)


def test_order_of_the_lists_does_not_matter(bundled, names):
    queries, candidates = (
        names.item_name.drop_duplicates().tolist()[:15],
        names.item_name.drop_duplicates().tolist()[100:200],
    )
    there, back = link_names(bundled, queries, candidates, 1), link_names(bundled, queries[::-1], candidates[::-1], 1)
    best = {queries[r.query]: r.score for r in there.itertuples()}
    assert best == {queries[::-1][r.query]: r.score for r in back.itertuples()}


def test_lines_that_repeat_are_each_answered(bundled):
    links = link_names(bundled, [SHELF[0], SHELF[0]], [SHELF[0], SHELF[1], SHELF[0]], 2)
    assert links["query"].tolist() == [0, 0, 1, 1]
    assert links[links["rank"] == 1].score.nunique() == 1 and set(links.candidate) == {0, 2}


def test_candidates_hold_the_nearest_of_each_kind(bundled, names):
    some = names.item_name.drop_duplicates().tolist()
    a, b = make_view(bundled.ruler, some[:10]), make_view(bundled.ruler, some[10:200])
    i, j = find_candidates(a, b, 3)
    for row in range(10):
        mine = set(j[i == row])
        assert set(np.argsort(-(a.vectors[row] @ b.vectors.T))[:1]) <= mine and 3 <= len(mine) <= 9
    assert (np.diff(i) >= 0).all() and len(find_candidates(a, b, 500)[0]) == 10 * 190


def test_figures_turn_round_with_the_pair(bundled, names):
    view = make_view(bundled.ruler, names.item_name.drop_duplicates().tolist()[:60])
    i, j = np.arange(0, 30), np.arange(30, 60)
    there, back = make_figures(view, i, view, j), make_figures(view, j, view, i)
    for name in there:
        other = name[:-2] + {"_a": "_b", "_b": "_a"}[name[-2:]] if name[-2:] in ("_a", "_b") else name
        np.testing.assert_allclose(there[name], back[other], atol=1e-4, err_msg=name)


def test_the_bundled_model_was_made_of_this_market(bundled, known):
    "The card counts the names and barcodes of the market, so `unseen` is what was kept apart."
    card = (find_model("similarity@bundled") / "card.md").read_text(encoding="utf-8")
    assert f"{known.gtin.nunique()} barcodes with {len(known)} names" in card and bundled.about["seed"] == 7


def test_changed_names_get_the_answer_they_must(bundled, unseen):
    "On products the bundled model has not learned from: none that became another product is accepted, nearly all that did not are."
    table = score_changes(bundled, unseen, seed=5, most=300)
    wrong, right = table[~table.is_same.astype(bool)], table[table.is_same.astype(bool)]
    assert wrong.pairs.sum() > 100 and wrong.accepted.sum() == 0
    assert right.accepted.sum() >= 0.95 * right.pairs.sum() > 100
    for kind in ("scale", "diet_spelling"):  # one litre as 1000 ml, "light" in two alphabets: no word is left in common
        rewritten = right[right.kind == kind]
        assert rewritten.accepted.sum() >= 0.9 * rewritten.pairs.sum() > 5, kind


def test_the_bundled_model_finds_what_it_has_not_seen(bundled, known, unseen):
    "Products it has not learned from ask among one name of every product of their market."
    queries, candidates = make_list_task(known, {*unseen.gtin}, 3)
    first = link_names(bundled, queries.item_name.tolist(), candidates.item_name.tolist(), 1)
    right = candidates.gtin.to_numpy()[first.candidate] == queries.gtin.to_numpy()[first["query"]]
    assert len(queries) > 40 and right.mean() > 0.6 and right[first.accepted.to_numpy()].mean() > 0.85


@pytest.fixture(scope="module")
def small_run(names):
    "A model of little training, and which barcodes or names each step of it was shown."
    seen = {}

    def watch(patch, name, place):
        real = getattr(train, name)

        def called(*given, **settings):
            shown = given[place].gtin if isinstance(given[place], pd.DataFrame) else given[place]
            seen.setdefault(name, []).append({*shown})
            return real(*given, **settings)

        patch.setattr(train, name, called)

    with pytest.MonkeyPatch.context() as patch:
        for name, place in (("fit_embedder", 0), ("fit_ruler", 1), ("fit_matcher", 1)):
            watch(patch, name, place)
        run = fit_similarity(names, make_bilingual_names(read_words()), dimensions=32, epochs=2, rounds=30, epochs_on=1)
    return run, seen


def test_nothing_of_the_test_part_is_learned_from(names, small_run):
    "Neither the embedding, nor the rarities, nor the matcher is shown a name of a test barcode or of a test word."
    (run, seen), words = small_run, make_bilingual_names(read_words())
    part, word_part = make_split(names.gtin, 7, PARTS), make_split(words.gtin, 7, WORD_PARTS)
    kept, apart = {*names.gtin[part == "test"]}, {*words.gtin[word_part == "test"]}
    assert len(kept) > 20 and len(apart) > 20 and 20 <= run.counts["questions"] <= len(kept)
    first, later = seen["fit_embedder"]
    for shown in (first, later, *seen["fit_matcher"]):
        assert shown and not shown & (kept | apart)
    matching = {*names.gtin[part == "validation"]}
    assert not first & matching and matching <= later, "the embedding sees the matcher's part only once that is trained"
    spelled = pd.concat([names, words])
    is_kept = spelled.gtin.isin(kept | apart)
    only = {*spelled.item_name[is_kept]} - {*spelled.item_name[~is_kept]}
    assert only and not seen["fit_ruler"][0] & only


def test_a_card_says_what_was_measured(small_run):
    "The card holds the figure models are compared by, and the figures of English names."
    run = small_run[0]
    card, (score, judged_on) = make_card(run), make_score(run)
    assert f"| matcher | mrr | {score:.3f} |" in card and len(judged_on) == 16
    settings = card.split("**Settings.**")[1]
    assert (
        "embedding: dimensions 32" in settings
        and "learning_rate 0.005" in settings
        and "matcher: rounds 30" in settings
    )
    english = run.translations.set_index(["model", "metric"]).value
    assert (
        f"| static_ngram | recall@10 | {english['static_ngram', 'recall@10']:.3f} |" in card.split("English names")[1]
    )


def test_models_are_compared_only_on_the_same_questions(names):
    "The mark of what was asked changes with the seed, with any candidate's name and with any question, and not with the order of rows."
    part = make_split(names.gtin, 7, PARTS)
    kept, other = {*names.gtin[part == "test"]}, names.index[part == "train"][0]

    def mark(table, seed=7):
        return train._name_task(*make_list_task(table, kept, seed), seed)

    assert mark(names.sample(frac=1, random_state=1)) == mark(names)
    assert mark(names, 8) != mark(names)
    renamed = names.assign(item_name=names.item_name.where(names.gtin != names.gtin[other], "שם אחר לגמרי"))
    assert mark(renamed) != mark(names), "a rival of another name makes another list"
    assert mark(names[names.gtin != min(kept)]) != mark(names)


def test_a_search_begins_with_the_given_settings_and_repeats_with_its_seed(names):
    "One trial is what is used without a search; with more, the best of what was tried, the same again for the same seed."
    part = make_split(names.gtin, 7, PARTS)
    parts = names[part == "train"], names[part == "validation"]
    given = {"learning_rate": 0.005, "scale": 20.0, "cut": 0.15, "drop": 0.2, "hard": 3}
    assert tune_embedder(*parts, 1, dimensions=16, epochs=1) == given
    found = tune_embedder(*parts, 3, dimensions=16, epochs=1)
    assert found == tune_embedder(*parts, 3, dimensions=16, epochs=1) and set(found) == set(given)


def test_twins_are_names_that_say_the_same(bundled):
    "Two barcodes under one wording are told from those that differ in a word, a number or an attribute."
    same = [("חלב נועמית 3% 1 ליטר", "נועמית חלב 3% 1000 מל"), ("במבוק 80 גרם", "במבוק 80ג'")]
    other = [("חלב נועמית 3% 1 ליטר", "חלב נועמית 1% 1 ליטר"), ("במבוק 80 גרם", "במבוק")]
    other += [("במבוק 80 גרם", "במבוק מתוק 80 גרם"), ("מסטיק 5", "מסטיק 7")]
    pairs = pd.DataFrame([*same, *other], columns=["name_a", "name_b"])
    assert find_twins(measure_pairs(bundled.ruler, pairs)).tolist() == [True] * len(same) + [False] * len(other)


def test_a_harder_negative_lowers_and_a_twin_does_not_count(bundled, known):
    "Twins under two barcodes pull average precision down; the untwinned figure leaves exactly them out."
    pairs = make_hard_pairs(bundled.ruler, known, 3)
    twin = pairs[pairs.is_same].assign(name_b=lambda t: t.name_a + " ", is_same=False)
    table = score_decisions(bundled, pd.concat([pairs, twin], ignore_index=True)).set_index(["model", "metric"])
    clean = score_decisions(bundled, pairs).set_index(["model", "metric"])
    whole, without = (f"average_precision{s}" for s in ("", "_untwinned"))
    assert table.value["matcher", whole] < clean.value["matcher", whole] - 0.05
    assert table.value["matcher", without] == pytest.approx(clean.value["matcher", without])
    assert table.n["matcher", whole] - table.n["matcher", without] >= len(twin)


def test_equals_stand_in_one_order_whatever_the_order_of_the_list(bundled):
    "Names that differ only in where a blank is doubled score alike; a cut-off list keeps the same of them, in the same order."
    equal = ["חלב  נועמית 3% 1 ליטר", "חלב נועמית  3% 1 ליטר", "חלב נועמית 3%  1 ליטר"]
    known, first = [*equal, *SHELF[1:4]], None
    for order in (known, known[::-1], [known[i] for i in (4, 1, 5, 0, 3, 2)]):
        links = link_names(bundled, ["חלב נועמית 3% ליטר"], order, 2)
        assert links.score.nunique() == 1, "they are equal"
        found = [order[j] for j in links.candidate]
        first = first or found
        assert found == first
    assert first == sorted(equal)[:2]


def test_calibration_takes_a_quarter_of_any_part(names):
    gtins = names.gtin.drop_duplicates()
    for part in PARTS:
        late = _is_late(gtins[(make_split(gtins, 7, PARTS) == part).to_numpy()], 7)
        assert 0.05 < late.mean() < 0.45


def test_hard_pairs_are_half_and_half(bundled, names):
    pairs = make_hard_pairs(bundled.ruler, names, 3)
    assert pairs.is_same.mean() == 0.5 and pairs.gtin.value_counts().eq(2).all()
    own = names.groupby("gtin").item_name.agg(set)
    for row in pairs.itertuples():
        assert row.name_a in own[row.gtin] and (row.name_b in own[row.gtin] or not row.is_same)
    changed = make_changed_pairs(names, 3, 50)
    assert set(changed.is_same) == {True, False} and len(measure_pairs(bundled.ruler, changed)) == len(changed)
    conflicts = measure_pairs(bundled.ruler, changed)[[f"{k}_conflict" for k in KINDS]].any(axis=1)
    assert conflicts[~changed.is_same.to_numpy(dtype=bool)].all()


def test_a_matcher_survives_saving_and_says_what_is_no_matcher(bundled, tmp_path):
    again = read_matcher(write_matcher(bundled, tmp_path / "model"))
    pd.testing.assert_frame_equal(link_names(again, SHELF, SHELF, 2), link_names(bundled, SHELF, SHELF, 2))
    for break_it in (
        lambda f: (f / "matcher.json").write_text("{"),
        lambda f: (f / "matcher.json").write_text('{"format": "other"}'),
        lambda f: (f / "rarity.npy").unlink(),
    ):
        folder = write_matcher(bundled, tmp_path / "broken")
        break_it(folder)
        with pytest.raises(SourceError, match="allowed"):
            read_matcher(folder)
    with pytest.raises(GroceryError, match="allowed: 1 or more"):
        link_names(bundled, SHELF, SHELF, 0)


def test_lists_are_read_line_by_line(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffחלב\r\n\r\nלחם\u2028אחיד\x0bפרוס\nקפה".encode())
    assert read_list(path) == ["חלב", "", "לחם\u2028אחיד\x0bפרוס", "קפה"]
    path.write_bytes("חלב\n".encode("cp1255"))
    assert read_list(path) == ["חלב"]
    path.write_bytes(b"")
    assert read_list(path) == []
    path.write_bytes(b"PK\x03\x04\0\0\0")
    for bad in (path, tmp_path, tmp_path / "nowhere.txt"):
        with pytest.raises(SourceError, match="allowed"):
            read_list(bad)


def test_the_command_answers_in_the_agreed_form(tmp_path):
    (tmp_path / "q.txt").write_text("נועמית חלב 3% 1 ליטר\n\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("\n".join(SHELF), encoding="utf-8")
    call = ["grocery", "link", "q.txt", "c.txt", "--top", "2", "--json"]
    done = subprocess.run(
        [*call, "--model", "similarity@bundled"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    answers = json.loads(done.stdout)
    assert [a["query"] for a in answers] == [0, 1] and set(answers[0]["candidates"][0]) == {
        "candidate",
        "score",
        "accepted",
    }
    assert answers[0]["candidates"][0] | {"score": 0} == {"candidate": 0, "score": 0, "accepted": True}
    assert not answers[0]["candidates"][1]["accepted"], "one per cent is another milk"
    wrong = subprocess.run([*call, "--model", "similarity@nobody"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2 and "similarity@bundled" in wrong.stderr
