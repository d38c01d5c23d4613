"Matching records of two tables: hostile files, what a label may reach, and the published benchmarks."

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grocery.errors import GroceryError, SourceError
from grocery.products.benchmarks import (
    find_benchmarks,
    find_threshold,
    fit_pair_benchmark,
    fit_pair_benchmarks,
    make_benchmark_card,
    make_benchmark_tables,
    parse_record,
    read_benchmark,
    read_labelled_pairs,
    say_benchmarks,
    score_pairs,
    write_benchmark_card,
)
from grocery.products.records import (
    find_candidates,
    fit_record_matcher,
    is_code,
    make_catalogue,
    make_context,
    make_features,
    make_rivals,
    make_words,
    predict_pairs,
)

MAKERS = "solara bellini tavor nimbus orvieto".split()
THINGS = "kettle toaster mixer radio lamp heater".split()
FILLERS = (
    "new compact steel quiet series deluxe family kitchen home gift cordless digital retro slim large classic".split()
)


def write_kettles(folder: Path, count: int = 150, seed: int = 7) -> Path:
    "Write an invented benchmark: things of one model come in sizes, and only the size tells them apart."
    rng, folder = random.Random(seed), folder / "kettles"
    folder.mkdir()

    def left(n: int) -> str:
        return f"COL name VAL {MAKERS[n % 5]} {THINGS[n % 6]} {'black' if n % 2 else 'white'} mk{200 + n % 30} {1 + n // 30}.5 l COL price VAL {30 + n % 40}.0"

    def right(n: int) -> str:
        more = " ".join(rng.sample(FILLERS, 5))
        price = "" if n % 4 == 0 else f"{31 + n % 40}.0"
        return f"COL name VAL {MAKERS[n % 5]} mk-{200 + n % 30}{'eu' if n % 3 == 0 else ''} {THINGS[n % 6]} {more} {1 + n // 30}.5 l COL price VAL {price}"

    rights = [right(n) for n in range(count)]
    rows = [f"{left(n)}\t{rights[m % count]}\t{int(n == m)}" for n in range(count) for m in (n, n + 5, n + 30, n + 60)]
    rng.shuffle(rows)
    edges = (0, len(rows) * 3 // 5, len(rows) * 4 // 5, len(rows))
    for part, start, stop in zip(("train", "valid", "test"), edges, edges[1:], strict=False):
        (folder / f"{part}.txt").write_text("\n".join(rows[start:stop]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def kettles(tmp_path_factory) -> Path:
    return write_kettles(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def run(kettles):
    return fit_pair_benchmark(kettles)


# --- files ---------------------------------------------------------------------------------------------------------------------------

BROKEN = {
    "a missing field": ("COL name VAL a\t1\n", "line 1"),
    "a fourth field": ("COL name VAL a\tCOL name VAL b\t1\tx\n", "received 4 fields"),
    "a label in words": ("COL name VAL a\tCOL name VAL b\tyes\n", "label 'yes'"),
    "a label that is no whole": ("COL name VAL a\tCOL name VAL b\t0.5\n", "label '0.5'"),
    "no columns": ("COL name VAL a\tCOL name VAL b\t1\na\tb\t1\n", "line 2"),
    "nothing": ("\n\n", "received no line"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_told_with_its_line(what, tmp_path):
    text, told = BROKEN[what]
    (tmp_path / "train.txt").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=told):
        read_labelled_pairs(tmp_path / "train.txt")


@pytest.mark.parametrize("data", [b"\xff\xfeC\x00O\x00L\x00", bytes(range(256))])
def test_a_file_that_is_no_text_is_told(data, tmp_path):
    (tmp_path / "train.txt").write_bytes(data)
    with pytest.raises(SourceError):
        read_labelled_pairs(tmp_path / "train.txt")


def test_a_missing_part_is_told(kettles, tmp_path):
    (tmp_path / "train.txt").write_bytes((kettles / "train.txt").read_bytes())
    assert find_benchmarks(tmp_path) == []
    with pytest.raises(SourceError, match="valid.txt"):
        read_benchmark(tmp_path)


def test_windows_lines_and_a_mark_at_the_start_read_the_same(kettles, tmp_path):
    text = (kettles / "test.txt").read_text(encoding="utf-8")
    (tmp_path / "test.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_labelled_pairs(tmp_path / "test.txt") == read_labelled_pairs(kettles / "test.txt")


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60))
def test_any_line_reads_or_is_told(text):
    record = parse_record(text)
    assert all(isinstance(k, str) and "\t" not in v for k, v in record.items())


def test_tables_are_collected_once_and_pairs_point_into_them(kettles):
    benchmark = read_benchmark(kettles)
    assert (len(benchmark.left), len(benchmark.right)) == (150, 150)
    assert sum(map(len, benchmark.labels.values())) == 600
    rows = read_labelled_pairs(kettles / "valid.txt")
    for (i, j), (left, right, _) in zip(benchmark.pairs["valid"].tolist(), rows, strict=True):
        assert (benchmark.left[i], benchmark.right[j]) == (left, right)
    assert list(benchmark.left[0]) == ["name", "price"]


# --- figures of a pair ---------------------------------------------------------------------------------------------------------------


def test_spellings_of_a_model_number_meet():
    assert make_words("LC-32D64U") == make_words("lc32d64u") == ["lc32d64u"]
    assert make_words("Part III v7.0") == make_words("part 3 7") == ["part", "3", "7"]
    assert [is_code(w) for w in ("lc32d64u", "10118", "2009", "7.55", "black", "4gb")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


words = st.lists(st.sampled_from("solara tv lcd-32 lc32d64u 7.0 3/4 חלב 1% ' ¼ .".split()), max_size=6).map(" ".join)


@settings(deadline=None, max_examples=40)
@given(st.lists(words, min_size=1, max_size=4), st.lists(words, min_size=1, max_size=4))
def test_any_texts_can_be_compared(left, right):
    left, right = [{"name": t, "more": "x y"} for t in left], [{"name": t} for t in right]
    catalogue = make_catalogue(left, right)
    pairs = [(i, j) for i in range(len(left)) for j in range(len(right))]
    table = pd.concat([make_features(catalogue, pairs), make_context(catalogue, pairs)], axis=1)
    assert len(table) == len(pairs) and not np.isinf(table.to_numpy()).any()
    assert set(map(tuple, find_candidates(catalogue, 2).tolist())) <= set(pairs)


def test_a_pair_is_measured_the_same_in_any_company(kettles):
    benchmark = read_benchmark(kettles)
    catalogue, pairs = make_catalogue(benchmark.left, benchmark.right), benchmark.pairs["test"]
    for measure in (make_features, make_context):
        pd.testing.assert_frame_equal(
            measure(catalogue, pairs)[5:9].reset_index(drop=True), measure(catalogue, pairs[5:9])
        )
        assert list(measure(catalogue, [])) == list(measure(catalogue, pairs))


def test_the_other_direction_is_the_turned_one(kettles):
    benchmark = read_benchmark(kettles)
    pairs = benchmark.pairs["valid"]
    there = make_context(make_catalogue(benchmark.left, benchmark.right), pairs)
    back = make_context(make_catalogue(benchmark.right, benchmark.left), pairs[:, ::-1])
    swap = {c: c.replace("_left", "_right") if "_left" in c else c.replace("_right", "_left") for c in back}
    pd.testing.assert_frame_equal(there, back.rename(columns=swap)[list(there)])


def test_rivals_by_hand():
    candidates, scores = np.array([(0, 0), (0, 1), (0, 2), (1, 1)]), np.array([0.9, 0.5, 0.2, 0.7])
    asked = np.array([(0, 1), (1, 0), (2, 2)])
    table = make_rivals(candidates, scores, asked, np.array([0.5, 0.3, 0.6]))
    assert table.rank_left.tolist() == [1, 1, 0] and table.rank_right.tolist() == [1, 1, 0]
    assert table.sum_left.round(6).tolist() == [1.1, 0.7, 0.0]


@pytest.mark.parametrize("left, right", [([], [{"a": "x"}]), ([{"a": ""}], [{"a": ""}]), ([{"a": "1"}], [{"a": "2"}])])
def test_tables_without_text_are_told(left, right):
    with pytest.raises(GroceryError, match="Cannot compare"):
        make_catalogue(left, right)


def test_too_few_labels_are_told():
    catalogue = make_catalogue([{"a": "x y"}], [{"a": "x z"}])
    with pytest.raises(GroceryError, match="Cannot learn"):
        fit_record_matcher(catalogue, [(0, 0)], [1])


# --- what a label may reach ----------------------------------------------------------------------------------------------------------


def test_labels_of_valid_and_test_reach_no_score(kettles, run, tmp_path):
    "Other labels in valid and test change figures and thresholds, never a score."
    (tmp_path / "turned").mkdir()
    for part in ("train", "valid", "test"):
        lines = (kettles / f"{part}.txt").read_text(encoding="utf-8").splitlines()
        turned = lines if part == "train" else [line[:-1] + str(1 - int(line[-1])) for line in lines]
        (tmp_path / "turned" / f"{part}.txt").write_text("\n".join(turned), encoding="utf-8")
    other, pairs = fit_pair_benchmark(tmp_path / "turned"), read_benchmark(kettles).pairs["test"]
    assert (predict_pairs(other.matcher, pairs) == predict_pairs(run.matcher, pairs)).all()
    assert other.thresholds != run.thresholds


def test_labels_of_test_reach_no_threshold(kettles, run, tmp_path):
    (tmp_path / "turned").mkdir()
    for part in ("train", "valid", "test"):
        text = (kettles / f"{part}.txt").read_text(encoding="utf-8")
        text = text if part != "test" else text.replace("\t1\n", "\t0\n")
        (tmp_path / "turned" / f"{part}.txt").write_text(text, encoding="utf-8")
    other = fit_pair_benchmark(tmp_path / "turned")
    assert other.thresholds == run.thresholds
    assert other.metrics.query("split == 'test' and metric == 'f1'").value.eq(0).all()


def test_a_score_does_not_depend_on_the_other_questions(kettles, run):
    pairs = read_benchmark(kettles).pairs["test"]
    assert (predict_pairs(run.matcher, pairs)[7:9] == predict_pairs(run.matcher, pairs[7:9])).all()
    assert len(predict_pairs(run.matcher, [])) == 0


# --- figures -------------------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.5, 0.9])), min_size=1, max_size=12))
def test_no_other_threshold_is_better(rows):
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])

    def f1(threshold):
        hit = scores >= threshold
        return 2 * (hit & (labels == 1)).sum() / max(1, hit.sum() + labels.sum())

    assert f1(find_threshold(labels, scores)) == pytest.approx(max(map(f1, scores)))


def test_figures_by_hand():
    table = score_pairs(np.array([1, 1, 0, 0]), np.array([0.9, 0.1, 0.8, 0.2]), 0.5).set_index("metric").value
    assert table[["f1", "precision", "recall"]].tolist() == [0.5, 0.5, 0.5]


def test_pairs_that_train_repeats_are_counted_and_left_out(kettles, tmp_path):
    for part in ("train", "valid", "test"):
        text = (kettles / f"{part}.txt").read_text(encoding="utf-8")
        again = "".join((kettles / "train.txt").read_text(encoding="utf-8").splitlines(keepends=True)[:15])
        (tmp_path / f"{part}.txt").write_text(text + (again if part == "test" else ""), encoding="utf-8")
    run = fit_pair_benchmark(tmp_path)
    rows = run.metrics.query("split == 'test' and model == 'matcher'").set_index("metric").n
    assert run.counts["test_repeats_train"] == 15 and rows["f1"] - rows["f1_unseen"] == 15


def test_the_matcher_beats_what_one_likeness_can_do(run):
    f1 = run.metrics.query("split == 'test' and metric == 'f1'").set_index("model").value
    assert f1["matcher"] >= 0.95 and f1["matcher"] > max(f1["tfidf_title"], f1["token_set_ratio"])
    assert run.metrics.groupby("model").is_chosen.first().to_dict()["matcher"]


def test_card_and_tables(run, tmp_path):
    metrics, mistakes, figures = make_benchmark_tables([run])
    assert set(metrics.model) == set(run.thresholds) and f"{run.name}.matcher.f1" in figures
    card = write_benchmark_card([run], tmp_path / "new").read_text(encoding="utf-8")
    assert f"{figures['kettles.matcher.f1']:.3f} (" in card and "150 left" in card
    assert len(mistakes) <= 10


@pytest.mark.parametrize("folder", ["", "no/such/folder"])
def test_nothing_to_measure_is_said(folder):
    assert fit_pair_benchmarks(folder) == []
    assert "no benchmark" in say_benchmarks([], folder) and "nothing was measured" in make_benchmark_card([])
    assert make_benchmark_tables([])[0].empty


# --- published benchmarks ------------------------------------------------------------------------------------------------------------

WANTED = {"Abt-Buy": 0.86, "Amazon-Google": 0.70}


@pytest.mark.realdata
@pytest.mark.parametrize("name", WANTED)
def test_published_benchmarks(name, realdata):
    "One model instead of three, no baselines: the whole measurement is the pipeline's."
    folder = realdata / "matching_benchmarks" / name
    if not find_benchmarks(folder):
        pytest.skip(f"{name} is not there")
    benchmark = read_benchmark(folder)
    catalogue = make_catalogue(benchmark.left, benchmark.right)
    matcher = fit_record_matcher(catalogue, benchmark.pairs["train"], benchmark.labels["train"], seeds=1)
    scores = {part: predict_pairs(matcher, benchmark.pairs[part]) for part in ("valid", "test")}
    threshold = find_threshold(benchmark.labels["valid"], scores["valid"])
    figures = score_pairs(benchmark.labels["test"], scores["test"], threshold).set_index("metric").value
    assert figures["f1"] >= WANTED[name]
