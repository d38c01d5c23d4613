"Search: an index that grew is the one made anew, filters never leak, and no text breaks it."

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grocery.errors import GroceryError, SourceError
from grocery.products.embed import make_untrained
from grocery.products.index import (
    LEGS,
    find_changes,
    find_near,
    make_catalogue,
    make_index,
    make_offers,
    make_segment,
    read_catalogue,
    read_index,
    read_offers,
    sync_index,
    update_index,
    write_index,
)
from grocery.products.lexical import is_slip, make_cuts, make_key, make_postings, make_vocabulary, make_words
from grocery.products.pairs import make_pairs, make_split
from grocery.products.query import find_phrases, make_codes, make_glossary, mend_code, parse_query
from grocery.products.search import EVERYWHERE, Where, as_engine, find_products, find_similar
from grocery.sample import products as market
from grocery.serve.search import open_search, write_search

HOSTILE = [
    "",
    " ",
    "\u200f\u200e",
    "!?-*&|:()'\"\\%_",
    "'; DROP TABLE products; --",
    "חלב & !קולה | (זירו:*) <-> 'x'",
    "a\0b\0",
    "\ud800",
    "0",
    "00000000",
    "7" * 400,
    "1 2 3 4 5 6 7 8 9",
    "%%%%",
    "____",
    "חָלָב",
    "🥛🧀",
    "ﬂour ﬁ",
    "חלב " * 120,
    "\u202eבלח",
    "٣٤٥٦٧٨",
    "²³¹",
    "NaN",
    "null",
    "א" * 500,
    "aaaa" * 125,
    "e" + "\u0301" * 499,
    "ח" + "\u0591" * 400 + "לב",
    " ".join(f"מילה{i}" for i in range(60)),
    "(a+)+$" * 60,
    "\x1b[31m\x7f",
    "\ufeffחלב",
    "%s %d {0} %(x)s",
    "-729000000-",
    "0" * 13,
]


@pytest.fixture(scope="module")
def catalogue() -> pd.DataFrame:
    products = market.make_products(300)
    return make_catalogue(products, market.make_items(products))


@pytest.fixture(scope="module")
def embed(catalogue):
    return make_untrained(catalogue.name.tolist(), 32)


@pytest.fixture(scope="module")
def offers(catalogue) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    rows = [
        (p, chain, f"{store:03d}", float(price))
        for p, chains in zip(catalogue.product_id, catalogue.chains, strict=True)
        for chain in chains
        for store, price in zip(rng.choice(4, 2, replace=False), rng.integers(2, 60, 2), strict=True)
    ]
    return pd.DataFrame(rows, columns=["product_id", "chain_id", "store_id", "price_ils"])


@pytest.fixture(scope="module")
def index(catalogue, embed, offers):
    return make_index(catalogue, embed, offers, make_glossary([("milk", "חלב"), ("olive oil", "שמן זית")]), "m@1")


def same(one, other, texts=("חלב 3%", "שוקולג", "קולה זירו 6", "אבקת כביס", "נועמית")) -> bool:
    return all(
        find_products(one, text, is_typing=typing).equals(find_products(other, text, is_typing=typing))
        for text in texts
        for typing in (False, True)
    )


# An index that grew


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("acd"), st.integers(0, 59), st.integers(1, 12)), max_size=8))
def test_an_index_that_grew_is_the_one_made_anew(catalogue, embed, steps):
    rows = catalogue.head(60).to_dict("records")
    now = {row["product_id"]: row for row in rows[:30]}
    grown = make_index(list(now.values()), embed)
    for kind, start, size in steps:
        some = rows[start : start + size]
        if kind == "d":
            gone = [row["product_id"] for row in some]
            grown, now = update_index(grown, (), gone), {k: v for k, v in now.items() if k not in gone}
        else:
            mark = f" {start}" if kind == "c" else ""
            changed = [row | {"name": row["name"] + mark} for row in some]
            grown, now = update_index(grown, changed), now | {row["product_id"]: row for row in changed}
    anew = make_index(list(now.values()), embed)
    assert len(grown) == len(anew) == len(now) and len(grown.segments) <= 7
    assert same(grown, anew)


def test_only_what_differs_is_worked_on(catalogue, index):
    assert not find_changes(index, catalogue).products
    later = pd.concat([catalogue.head(2).assign(brand="אחר"), catalogue.iloc[5:]])
    changes = find_changes(index, later)
    assert (changes.added, changes.changed, len(changes.removed), changes.same) == (0, 2, 3, len(catalogue) - 5)
    later_index = update_index(index, changes.products, changes.removed)
    assert later_index.segments[0] is index.segments[0] and len(later_index.segments[1]) == 2
    assert find_changes(later_index, later).same == len(later) and len(index) == len(catalogue)


def test_rows_in_another_order_give_the_same_hits(catalogue, embed):
    assert same(make_index(catalogue, embed), make_index(catalogue.sample(frac=1, random_state=3), embed))


def test_a_graph_finds_what_comparing_all_finds(catalogue, embed):
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(3000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [{"product_id": str(i), "name": "x", "names": [], "codes": [], "chains": [], "digest": str(i), "words": "x", "length": 1.0}
            | dict.fromkeys(["gtin", "name_english", "brand", "category", "quantity", "unit"]) | {"said": "{}"} for i in range(3000)]  # fmt: skip
    graph, flat = make_segment(rows, vectors, 100).vectors, make_segment(rows, vectors).vectors
    few = np.zeros(3000, bool)
    few[::40] = True
    for allowed, least in ((None, 0.95), (few, 1.0), (rng.random(3000) < 0.5, 0.95)):
        shares = []
        for asked in vectors[:60]:
            near, exact = find_near(graph, asked, 10, allowed)[0], find_near(flat, asked, 10, allowed)[0]
            assert allowed is None or allowed[near].all()
            shares.append(len(set(near) & set(exact)) / 10)
        assert np.mean(shares) >= least


# Finding


def first(index, text, **how):
    return find_products(index, text, 1, **how).product_id.tolist()


def test_every_product_is_found_by_its_name_and_by_its_barcode(catalogue, index):
    for legs in (None, ("words", "pieces"), ("embedding",)):
        right = [
            first(index, name, legs=legs) == [i]
            for i, name in zip(catalogue.product_id[::4], catalogue.name[::4], strict=True)
        ]
        assert np.mean(right) > 0.97
    for row in catalogue.dropna(subset=["gtin"]).head(40).itertuples():
        for code in (row.gtin, "00" + row.gtin, row.gtin[:-1], f"{row.gtin[:6]}-{row.gtin[6:]}"):
            assert first(index, code) == [row.product_id]
        assert row.product_id in find_products(index, row.gtin[3:11]).product_id.tolist()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("קוטג", "קוטג'"),
        ("הקוטג'", "קוטג'"),
        ("קוטגג 5%", "5%"),
        ("עגבניות שרי", "עגבניה שרי"),
        ("ביסקויט", "ביסקוויט"),
        ("שוקולג", "שוקולד"),
        ("סכור לבן", "סוכר"),
        ("milk 3%", "חלב"),
        ("קולה שישיה", "קולה"),
    ],
)
def test_what_a_person_types(index, asked, found):
    assert found in find_products(index, asked, 1).name.iloc[0]


def test_an_unfinished_word_is_completed_while_typing(index):
    for text in ("אבק", "אבקת כבי", "יוגור", "מלפפ"):
        name = find_products(index, text, 1, is_typing=True).name[0]
        assert any(w.startswith(text.split()[-1]) for w in name.split())


def test_what_was_asked_for_is_not_contradicted(index):
    for text, percent in (("חלב 3%", "3%"), ("חלב 1%", "1%"), ("גבינה לבנה 9%", "9%")):
        hits = find_products(index, text, 3)
        assert percent in hits.name[0] and not hits.conflicts[0]
        assert hits.score.is_monotonic_decreasing


def test_each_leg_can_be_asked_alone(index, catalogue):
    bare = make_index(catalogue)
    assert index.legs == LEGS and bare.legs == LEGS[:2]
    for leg in LEGS:
        assert set(find_products(index, "חלב", legs=[leg]).found_by) == {leg}
    with pytest.raises(GroceryError, match="leg"):
        find_products(bare, "חלב", legs=["embedding"])


def test_similar_products_are_others_of_the_same_kind(index, catalogue):
    kinds = catalogue.set_index("product_id").category
    for product_id in catalogue.product_id[:30]:
        hits = find_similar(index, product_id, 5)
        assert len(hits) == 5 and product_id not in set(hits.product_id)
        assert kinds[hits.product_id[0]] == kinds[product_id]
    coded = catalogue.dropna(subset=["gtin"]).iloc[0]
    assert find_similar(index, coded.gtin).equals(find_similar(index, coded.product_id))
    assert len(find_similar(index, "חלב סויה")) == 10 and find_similar(index, "").empty


# Filters


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_filters_never_leak_and_hits_stay_full(catalogue, offers, index, data):
    draw = data.draw
    category = draw(st.sampled_from([None, *sorted(set(catalogue.category))]))
    brand = draw(st.sampled_from([None, *sorted(set(catalogue.brand) - {""})]))
    chain = draw(st.sampled_from([None, *sorted(set(offers.chain_id))]))
    store = draw(st.sampled_from([None, "000", "003"])) if chain else None
    most = draw(st.sampled_from([None, 10.0, 30.0]))
    where = Where(category, brand, chain, store, None, most)
    sold = offers[(offers.chain_id == chain) | (chain is None)]
    sold = sold[(sold.store_id == store) | (store is None)].groupby("product_id").price_ils.min()
    fit = catalogue[
        (catalogue.category.eq(category) | (category is None)) & (catalogue.brand.eq(brand) | (brand is None))
    ].product_id
    if chain or most:
        fit = fit[fit.isin(sold[sold <= (most or 1e9)].index)]
    hits = find_products(index, draw(st.sampled_from(["חלב 3%", "שוקולד", "ב"])), 10, where, ["embedding"])
    assert set(hits.product_id) <= set(fit) and len(hits) == min(10, len(fit))
    assert all(
        price == pytest.approx(sold[i]) for i, price in zip(hits.product_id, hits.price_ils, strict=True) if i in sold
    )
    assert set(find_products(index, "חלב 3%", 50, where).product_id) <= set(fit)


def test_a_filter_that_means_nothing_is_refused(index, catalogue):
    with pytest.raises(GroceryError, match="category"):
        find_products(index, "חלב", where=Where(category="diary"))
    with pytest.raises(GroceryError, match="chain"):
        Where(store="001")
    with pytest.raises(GroceryError, match="prices"):
        find_products(make_index(catalogue.head(5)), "חלב", where=Where(max_price=5))
    assert find_products(index, "חלב", where=Where(brand="אין כזה")).empty


# Any text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_answered(index, text):
    "No text breaks an index in a folder, and none takes it long."
    for typing in (False, True):
        begun = time.process_time()
        assert list(find_products(index, text, is_typing=typing)["rank"]) == list(
            range(1, 1 + len(find_products(index, text, is_typing=typing)))
        )
        find_similar(index, text)
        assert time.process_time() - begun < 2


@pytest.mark.parametrize("text", ["x" * 10_000_000, "חלב " * 200, None, 3, b"milk"])
def test_what_is_no_question_is_refused_in_words(index, text):
    with pytest.raises(GroceryError, match="allowed"):
        find_products(index, text)


@pytest.mark.parametrize("top", [0, -1, 1_000_000, 1.5, "10", None, True, float("nan")])
def test_a_number_of_hits_that_nobody_can_want_is_refused(index, top):
    for find in (find_products, find_similar):
        with pytest.raises(GroceryError, match="from 1 to 1,000"):
            find(index, "חלב", top)
    assert len(find_products(index, "חלב", np.int64(3))) == 3


@pytest.mark.parametrize("where", [{"category": 5}, {"brand": "x" * 10**6}, {"min_price": "5"}, {"min_price": float("nan")}, {"max_price": 10**400}])  # fmt: skip
def test_a_filter_of_odd_values_is_refused(where):
    with pytest.raises(GroceryError, match="allowed"):
        Where(**where)


def test_a_filter_is_tidied_and_nothing_else_is_one(index):
    assert Where(category="\u200fdairy\0") == Where(category="dairy") and Where(brand="\u200f").brand is None
    with pytest.raises(GroceryError, match="Where"):
        find_products(index, "חלב", where=None)


@pytest.mark.parametrize("text", ["!?-*&|:()", "%", "%_%", "\u200f\u202e", ".", '"'])
def test_a_question_without_letters_and_digits_asks_for_nothing(index, text):
    "Even where names hold a percent sign."
    assert find_products(index, text).empty and find_similar(index, text).empty


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_answered(index, text):
    hits = find_products(index, text, 5)
    assert len(hits) <= 5 and hits.product_id.is_unique


def test_an_empty_index_finds_nothing(embed):
    for empty in (make_index([]), make_index([], embed)):
        assert find_products(empty, "חלב").empty and find_similar(empty, "חלב").empty
        assert list(find_products(empty, "7290000000015").columns)


@pytest.mark.parametrize("row", [{"name": "חלב"}, {"product_id": "1"}, {"product_id": "1", "name": None}])
def test_a_product_without_id_or_name_is_refused(row):
    with pytest.raises(GroceryError, match="product_id"):
        make_index([row])


def test_products_with_odd_content_are_indexed():
    rows = [
        {"product_id": "1", "name": "\ud800"[:0] + "!!!", "names": None, "brand": float("nan")},
        {"product_id": "2", "name": "x" * 5000, "names": ["", " "], "codes": ["|", "0", "000"]},
        {"product_id": "3", "name": "\0חלב\n", "chains": ["7"], "category": "", "codes": ["\ud800-1"]},
    ]
    index = make_index(rows)
    assert first(index, "חלב") == ["3"] and first(index, "x" * 400) in ([], ["2"]) and len(index) == 3


# Words


@given(st.text("אבגד", min_size=4, max_size=8), st.data())
def test_a_slip_is_found_again(word, data):
    place = data.draw(st.integers(0, len(word) - 2))
    kind = data.draw(st.sampled_from(["drop", "add", "change", "swap"]))
    slip = {
        "drop": word[:place] + word[place + 1 :],
        "add": word[:place] + "ש" + word[place:],
        "change": word[:place] + "ש" + word[place + 1 :],
        "swap": word[:place] + word[place + 1] + word[place] + word[place + 2 :],
    }[kind]
    assert is_slip(word, slip) and is_slip(slip, word)
    if slip != word and make_cuts(slip):
        assert make_vocabulary([word]).near(slip) == [word]


def test_codes_and_phrases():
    assert make_codes("729000000001")[1] == "7290000000015"
    assert parse_query("729-0000 000015").code == "7290000000015" and not parse_query("חלב 3").code
    glossary = make_glossary([("Olive Oil", "שמן זית"), ("oil", "שמן"), ("", "x"), ("x", "")])
    assert find_phrases(["olive", "oil", "oils"], glossary) == [
        (("olive", "oil"), ("שמנ זית",)),
        (("oils",), ("שמנ",)),
    ]


def test_a_wrong_check_digit_is_forgiven_and_said(index, catalogue):
    "A whole barcode that nobody has finds nothing, rather than whatever is near."
    code = catalogue.gtin.dropna().iloc[3]
    wrong = code[:-1] + str((int(code[-1]) + 1) % 10)
    hit = find_products(index, wrong).iloc[0]
    assert (hit.gtin, hit.conflicts) == (code, "check digit") and find_products(index, code).conflicts[0] == ""
    assert mend_code(wrong) == code and mend_code(code) is None and mend_code("42") is None
    for unknown in ("4006381333931", "9" * 13, "1" * 400):
        assert find_products(index, unknown).empty and find_similar(index, unknown).empty


def test_offers_are_the_lowest_of_each_place(offers):
    "Beside a plain group-by: everywhere, in a chain, in a store; a price said twice counts once."
    said = pd.concat([offers, offers.head(50).assign(price_ils=1.5), offers.tail(9).assign(price_ils=np.nan)])
    found = make_offers(said)
    by_place = dict(zip(found.places.tolist(), np.split(np.arange(len(found.prices)), found.starts[1:-1]), strict=True))
    places = {"": [], "chain": ["chain_id"], "store": ["chain_id", "store_id"]}
    seen = 0
    for columns in places.values():
        plain = said.dropna().groupby([*columns, "product_id"]).price_ils.min()
        for key, price in plain.items():
            *place, product = key if columns else ("", key)
            rows = by_place[make_key(":".join(place))]
            place_of = np.searchsorted(found.products[rows], np.uint64(make_key(product)))
            assert found.products[rows[place_of]] == make_key(product) and found.prices[rows[place_of]] == np.float32(
                price
            )
            seen += 1
    assert seen == len(found.prices) and len(make_offers(offers.head(0)).prices) == 0


def test_postings_of_nothing():
    empty = make_postings([], 6.0)
    assert empty.find(1) == slice(0, 0) and len(make_postings([[make_words("")]], 6.0).terms) == 0


# In a folder


def test_an_index_survives_writing(tmp_path, index, embed, catalogue):
    write_index(index, tmp_path, lake_version=5)
    opened = read_index(tmp_path, embed, "m@1")
    assert same(index, opened) and opened.about == {"lake_version": 5} and opened.glossary == index.glossary
    assert find_products(opened, "חלב", where=Where(max_price=9)).equals(
        find_products(index, "חלב", where=Where(max_price=9))
    )
    bare = read_index(tmp_path)
    assert bare.legs == LEGS[:2] and len(find_products(bare, "חלב"))
    with pytest.raises(SourceError, match="model"):
        read_index(tmp_path, embed, "other@2")


def test_writing_again_writes_only_what_is_new_and_readers_keep_theirs(tmp_path, index, embed, catalogue):
    write_index(index, tmp_path)
    opened = read_index(tmp_path, embed, "m@1")
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.is_dir()}
    later = update_index(opened, [catalogue.iloc[0].to_dict() | {"name": "דבר אחר לגמרי"}])
    later = write_index(later, tmp_path)
    after = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.is_dir()}
    assert before.items() < after.items() and len(after) == 2
    assert same(read_index(tmp_path, embed, "m@1"), later) and same(opened, index)
    assert first(read_index(tmp_path), "דבר אחר לגמרי") == [catalogue.product_id[0]]
    whole = update_index(later, catalogue)
    write_index(whole, tmp_path)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {s.name for s in whole.segments}
    assert same(later, later)


DAMAGES = ["no manifest", "not json", "other format", "lost segment", "cut file", "empty file", "cut rows", "cut codes", "half a manifest", "odd manifest", "other rows"]  # fmt: skip


def harm(folder, damage):
    "Do to an index what a full disk, a killed copy or a curious hand does."
    segment = next(p for p in folder.iterdir() if p.is_dir())
    manifest = json.loads((folder / "index.json").read_text())
    match damage:
        case "empty file":
            (segment / "ties.npy").write_bytes(b"")
        case "cut rows":
            (segment / "rows.arrow").write_bytes((segment / "rows.arrow").read_bytes()[:-200])
        case "cut codes":
            (segment / "codes.txt").write_bytes((segment / "codes.txt").read_bytes()[:-3])
        case "half a manifest":
            (folder / "index.json").write_text(json.dumps({"format": manifest["format"]}))
        case "odd manifest":
            (folder / "index.json").write_text(json.dumps(manifest | {"segments": ["x", 3]}))
        case "other rows":
            np.save(segment / "ties.npy", np.zeros(3, np.uint64))
        case "no manifest":
            (folder / "index.json").unlink()
        case "not json":
            (folder / "index.json").write_text("{")
        case "other format":
            (folder / "index.json").write_text(json.dumps({"format": "x"}))
        case "lost segment":
            os.rename(segment, folder.parent / "away")
        case "cut file":
            (segment / "words.terms.npy").write_bytes(b"x")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_told_in_words_and_mended_by_the_next_sync(tmp_path, catalogue, offers, damage):
    some = catalogue.dropna(subset=["gtin"]).head(20)
    write_lake(tmp_path / "lake", some, offers[offers.product_id.isin(some.product_id)])
    folder, lake = tmp_path / "index", str(tmp_path / "lake")
    before, _ = sync_index(folder, lake)
    harm(folder, damage)
    with pytest.raises(SourceError, match="index"):
        read_index(folder)
    assert sync_index(folder, lake)[1].added == 20 and same(read_index(folder), before)
    assert sync_index(folder, lake)[1].same == 20


def test_no_folder_and_a_folder_that_cannot_be_are_told_in_words(tmp_path, catalogue):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(SourceError, match="index"):
            read_index(folder)
    with pytest.raises(SourceError, match="cannot be written"):
        write_index(make_index(catalogue.head(3)), tmp_path / "file" / "index")


def test_of_two_that_change_one_index_the_later_is_refused(tmp_path, catalogue):
    "Neither change is lost in silence; whoever reads again can write."
    write_index(make_index(catalogue.head(9)), tmp_path)
    one, other = read_index(tmp_path), read_index(tmp_path)
    one = write_index(update_index(one, removed=[catalogue.product_id[0]]), tmp_path)
    with pytest.raises(SourceError, match="another writer"):
        write_index(update_index(other, removed=[catalogue.product_id[1]]), tmp_path)
    one = write_index(update_index(one, removed=[catalogue.product_id[2]]), tmp_path)
    write_index(update_index(read_index(tmp_path), removed=[catalogue.product_id[1]]), tmp_path)
    assert len(read_index(tmp_path)) == 6 and len(one) == 7
    write_index(update_index(other, removed=[catalogue.product_id[1]]), tmp_path / "elsewhere")
    write_index(make_index(catalogue.head(5)), tmp_path)  # one that was made anew replaces what is there
    assert len(read_index(tmp_path)) == 5


def test_one_process_writes_an_index_at_a_time(tmp_path, catalogue):
    "A second one waits, and says who writes where that takes longer than it may; what a killed one left is swept away."
    folder = tmp_path / "index"
    write_index(make_index(catalogue.head(5)), folder)
    code = "import sys, time; from grocery.store.staging import lock_lake\nwith lock_lake(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SourceError, match=f"index at .* process {holder.pid}"):
            write_index(make_index(catalogue.head(6)), folder, wait=0.1)
        assert len(read_index(folder)) == 5
        holder.kill()
    (folder / ".0123456789abcdef.77").mkdir()
    (folder / ("ab" * 8 + ".npy")).write_bytes(b"left")
    (folder / "notes.txt").write_text("mine")
    write_index(make_index(catalogue.head(6)), folder, wait=5)
    assert len(read_index(folder)) == 6
    assert {p.name for p in folder.iterdir() if not p.is_dir()} == {"index.json", "notes.txt"}
    assert len([p for p in folder.iterdir() if p.is_dir()]) == 1


def test_several_that_follow_a_lake_at_once_agree(tmp_path, catalogue, offers):
    "One makes the index, the others take what it made."
    some = catalogue.dropna(subset=["gtin"]).head(30)
    write_lake(tmp_path / "lake", some, offers[offers.product_id.isin(some.product_id)])
    code = "import sys; from grocery.products.index import sync_index; index, changes = sync_index(*sys.argv[1:]); print(len(index), changes.added)"
    call = [sys.executable, "-c", code, str(tmp_path / "index"), str(tmp_path / "lake")]
    running = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(process.communicate()[0].split() for process in running)
    assert said == [["30", "0"], ["30", "0"], ["30", "30"]]


def test_another_process_orders_hits_in_the_same_way(tmp_path, index, embed, catalogue):
    write_index(make_index(catalogue), tmp_path)
    code = "import sys; from grocery.products.index import read_index; from grocery.products.search import find_products; print(find_products(read_index(sys.argv[1]), 'חלב 3%').product_id.tolist())"
    environ = os.environ | {"PYTHONHASHSEED": "99", "PYTHONIOENCODING": "utf-8"}
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environ, check=True
    )
    assert told.stdout.strip() == str(find_products(read_index(tmp_path), "חלב 3%").product_id.tolist())


# From a lake


def write_lake(path, catalogue, offers):
    from datetime import UTC, datetime

    from grocery.store.lake import open_lake
    from grocery.tables import make_table

    seen = datetime(2026, 3, 1, 6, tzinfo=UTC)
    rows = [
        {"chain_id": chain, "item_code": row.gtin or row.product_id, "gtin": row.gtin, "item_name": row.name_hebrew}
        for row in catalogue.rename(columns={"name": "name_hebrew"}).itertuples()
        for chain in row.chains
    ]
    codes = {row.product_id: row.gtin or row.product_id for row in catalogue.itertuples()}
    prices = [
        {"chain_id": c, "store_id": s, "item_code": codes[p], "price_ils": Decimal(str(price)), "valid_from": seen}
        for p, c, s, price in offers.itertuples(index=False)
    ]
    lake = open_lake(path)
    lake.overwrite("items", make_table("items", rows))
    lake.overwrite("prices", make_table("prices", prices))
    return lake


def test_an_index_keeps_up_with_its_lake(tmp_path, catalogue, offers):
    some = catalogue.dropna(subset=["gtin"]).head(40)
    write_lake(tmp_path / "lake", some, offers[offers.product_id.isin(some.product_id)])
    index, changes = sync_index(tmp_path / "index", str(tmp_path / "lake"))
    assert (changes.added, len(index)) == (40, 40) and index.offers is not None
    assert set(read_catalogue(str(tmp_path / "lake")).product_id) == set(some.gtin)
    again, changes = sync_index(tmp_path / "index", str(tmp_path / "lake"))
    assert changes.products == [] and changes.same == 40 and again.about == index.about
    later = some.iloc[1:].copy()
    later.loc[later.index[0], "name"] = "גליל נייר כסף"
    write_lake(tmp_path / "lake", later, offers[offers.product_id.isin(later.product_id)].assign(price_ils=3.5))
    index, changes = sync_index(tmp_path / "index", str(tmp_path / "lake"))
    assert (changes.added, changes.changed, len(changes.removed), changes.same) == (0, 1, 1, 38)
    assert first(index, "נייר כסף") == [later.gtin.iloc[0]] and not first(index, some.gtin.iloc[0])
    assert set(find_products(index, later.name.iloc[5], 5).price_ils) == {3.5}
    assert same(index, make_index(read_catalogue(str(tmp_path / "lake")), offers=read_offers(str(tmp_path / "lake"))))


def test_another_model_or_a_damaged_folder_is_made_anew(tmp_path, catalogue, offers, embed):
    some = catalogue.dropna(subset=["gtin"]).head(20)
    write_lake(tmp_path / "lake", some, offers[offers.product_id.isin(some.product_id)])
    for model in ("a@1", "b@2"):
        index, changes = sync_index(tmp_path / "index", str(tmp_path / "lake"), embed, model)
        assert changes.added == 20 and index.legs == LEGS and index.model == model
    (tmp_path / "index" / "index.json").write_text("{")
    assert sync_index(tmp_path / "index", str(tmp_path / "lake"), embed, "b@2")[1].added == 20


# In PostgreSQL


@pytest.fixture(scope="module")
def database(postgres, index, embed):
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE grocery_search_test")
    address = postgres.replace("/postgres?", "/grocery_search_test?")
    assert write_search(address, index) == len(index)
    return address


@pytest.fixture(scope="module")
def engine(database, embed):
    return open_search(database, embed, "m@1")


def test_the_database_finds_what_the_folder_finds(engine, index, catalogue):
    assert len(engine) == len(index) and engine.legs == index.legs
    for leg, least in (("words", 0.99), ("embedding", 0.98)):
        shares = []
        for text in [*catalogue.name[:60], "חלב", "שוקולג מריר", "milk 3%", "הקוטג"]:
            one, other = (find_products(e, text, 10, legs=[leg]) for e in (engine, index))
            shares.append(len(set(one.product_id) & set(other.product_id)) / max(1, len(other)))
        assert np.mean(shares) >= least, leg
    right = [first(engine, name) == [i] for i, name in zip(catalogue.product_id[::4], catalogue.name[::4], strict=True)]
    assert np.mean(right) > 0.97


def test_the_database_finds_codes_and_similar_products(engine, index, catalogue):
    code = catalogue.gtin.dropna().iloc[7]
    for asked in (code, "00" + code, code[:-1], code[2:10]):
        one, other = find_products(engine, asked), find_products(index, asked)
        assert code in set(one.gtin) and set(one.product_id) == set(other.product_id)
    hits = find_similar(engine, code, 5)
    assert len(hits) == 5 and code not in set(hits.gtin)
    assert find_products(engine, "אבקת כבי", 1, is_typing=True).name[0].startswith("אבקת כביסה")


@pytest.mark.parametrize("text", HOSTILE)
def test_the_database_answers_hostile_texts(engine, text):
    for typing in (False, True):
        assert len(find_products(engine, text, is_typing=typing)) <= 10
    find_similar(engine, text)


def test_filters_of_the_database_are_those_of_the_folder(engine, index, catalogue, offers):
    chain, brand = offers.chain_id.iloc[0], catalogue.brand[catalogue.brand.ne("")].iloc[0]
    for where in (
        Where(category="dairy"),
        Where(brand=brand),
        Where(chain=chain),
        Where(chain=chain, store="001"),
        Where(max_price=8.0),
        Where("dairy", None, chain, "003", 3.0, 20.0),
    ):
        one, other = (find_products(e, "חלב 3%", 10, where, ["embedding"]) for e in (engine, index))
        assert set(one.product_id) == set(other.product_id) and len(one)
        prices = [dict(zip(e.product_id, e.price_ils.fillna(-1), strict=True)) for e in (one, other)]
        assert prices[0] == pytest.approx(prices[1])
    with pytest.raises(GroceryError, match="category"):
        find_products(engine, "חלב", where=Where(category="diary"))


def test_a_database_is_brought_up_to_date(new_postgres, catalogue, embed):
    some = make_index(catalogue.head(50), embed, model="m@1")
    assert write_search(new_postgres, some) == 50 and write_search(new_postgres, some) == 0
    later = update_index(some, [catalogue.iloc[0].to_dict() | {"name": "גליל נייר כסף"}], [catalogue.product_id[1]])
    assert write_search(new_postgres, later) == 1
    engine = open_search(new_postgres, embed, "m@1")
    assert len(engine) == 49 and first(engine, "נייר כסף") == [catalogue.product_id[0]]
    assert catalogue.product_id[1] not in set(find_products(engine, catalogue.name[1], 10).product_id)
    with pytest.raises(GroceryError, match="model"):
        open_search(new_postgres, embed, "other@1")
    bare = make_index(catalogue.head(30))
    assert write_search(new_postgres, bare) == 30
    assert open_search(new_postgres).legs == LEGS[:2] and len(find_products(open_search(new_postgres), "חלב"))


def test_the_database_refuses_what_the_folder_refuses(engine, offers):
    chain = offers.chain_id.iloc[0]
    for where, said in ((Where(category="diary"), "category"), (Where(chain="x'--"), "chain"), (Where(chain=chain, store="999"), "store")):  # fmt: skip
        with pytest.raises(GroceryError, match=said):
            find_products(engine, "חלב", where=where)
    assert find_products(engine, "חלב", where=Where(brand="'; DROP TABLE x; --")).empty
    assert find_products(engine, "חלב", where=Where(category="dairy", max_price=0)).empty


@pytest.mark.parametrize("many", [1, 40, 10_000])
def test_a_filter_finds_the_same_whether_it_leaves_few_rows_or_many(engine, index, monkeypatch, many):
    "Whichever way the database takes, the best words are those of the folder."
    monkeypatch.setattr("grocery.serve.search._FEW", many)
    for where in (Where(category="dairy"), Where(max_price=15.0), Where("dairy", max_price=20.0)):
        engine.sizes.clear()
        for text in ("חלב 3%", "חלב נועמית 1 ליטר", "קוטגג"):
            one, other = (find_products(e, text, 8, where, ["words"]) for e in (engine, index))
            assert set(one.product_id) == set(other.product_id), (where, text)


def test_many_ask_one_database_at_once(engine, catalogue):
    texts = catalogue.name[:24].tolist()
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda text: first(engine, text), texts))
    assert found == [first(engine, text) for text in texts]


def test_a_database_that_was_restarted_is_asked_again(engine, database):
    import psycopg

    before = first(engine, "חלב 3%")
    with psycopg.connect(database, autocommit=True) as connection:
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert connection.execute(ended).fetchone()[0] > 0
    assert first(engine, "חלב 3%") == before


def test_a_product_that_is_deleted_between_two_statements_is_left_out(new_postgres, catalogue):
    write_search(new_postgres, make_index(catalogue.head(30)))
    engine, gone = open_search(new_postgres), catalogue.product_id[0]
    find_legs = engine.find_legs

    def then_delete(*asked):
        found = find_legs(*asked)
        write_search(new_postgres, make_index(catalogue.iloc[1:30]))
        return found

    engine.find_legs = then_delete
    hits = find_products(engine, catalogue.name[0])
    assert len(hits) and gone not in set(hits.product_id) and list(hits["rank"]) == list(range(1, len(hits) + 1))


def test_tables_of_another_version_are_made_anew(new_postgres, catalogue):
    import psycopg

    index = make_index(catalogue.head(12))
    write_search(new_postgres, index)
    with psycopg.connect(new_postgres, autocommit=True) as connection:
        connection.execute("ALTER TABLE grocery_search.about DROP COLUMN format")
        connection.execute("ALTER TABLE grocery_search.products DROP COLUMN words")
    with pytest.raises(GroceryError, match="grocery index"):
        open_search(new_postgres)
    assert write_search(new_postgres, index) == 12 and len(find_products(open_search(new_postgres), "חלב"))


def test_prices_of_a_database_follow_and_what_no_database_holds_is_left_out(new_postgres, catalogue, offers):
    "A price that goes, comes or changes; a name with a zero byte and half a character."
    odd = {"product_id": "odd", "name": "גליל \0נייר \ud800כסף", "codes": ["\0A-1"], "chains": ["\0"]}
    rows = [*catalogue.head(20).to_dict("records"), odd]
    for change in (offers, offers.assign(price_ils=offers.price_ils + 1), offers.iloc[::2], offers.head(0)):
        mine = change[change.product_id.isin(catalogue.product_id[:20])]
        index = make_index(rows, offers=mine)
        write_search(new_postgres, index)
        engine = open_search(new_postgres)
        one, other = (
            e.read_prices([e.find_row(i) for i in catalogue.product_id[:20]], EVERYWHERE)
            for e in (engine, as_engine(index))
        )
        assert one == other and sum(price is not None for price in one) == mine.product_id.nunique()
    assert first(engine, "נייר כסף") == ["odd"]


def test_one_door_to_both(tmp_path, new_postgres, catalogue):
    write_index(make_index(catalogue.head(9)), tmp_path)
    assert len(open_search(str(tmp_path))) == 9
    with pytest.raises(GroceryError, match="nothing to search"):
        open_search(new_postgres)
    with pytest.raises(GroceryError, match="PostgreSQL"):
        write_search(str(tmp_path / "x.db"), make_index(catalogue.head(3)))
    with pytest.raises(GroceryError):
        open_search("postgresql://nobody@localhost:1/none")


# Real names


@pytest.mark.realdata
def test_one_chains_name_finds_the_product_under_the_others(real_names):
    names, parts = real_names, make_split(real_names.gtin)
    kept = set(names.gtin.drop_duplicates().sample(3000, random_state=7))
    names, parts = names[names.gtin.isin(kept)], parts[names.gtin.isin(kept)]
    asked = make_pairs(names[parts == "test"], limit=1).head(200)
    hidden = set(zip(asked.gtin, asked.name_a, strict=True))
    others = names[[pair not in hidden for pair in zip(names.gtin, names.item_name, strict=True)]]
    spelled = others.groupby("gtin").item_name.agg(lambda v: sorted(set(v), key=lambda n: (-len(n), n))).reset_index()
    rows = spelled.rename(columns={"gtin": "product_id", "item_name": "names"})
    index = make_index(rows.assign(name=rows.names.str[0]))
    ranks = []
    for gtin, text in zip(asked.gtin, asked.name_a, strict=True):
        found = find_products(index, text, 10).product_id.tolist()
        ranks.append(found.index(gtin) + 1 if gtin in found else 1000)
    ranks = np.array(ranks)
    assert (ranks == 1).mean() >= 0.6 and (ranks <= 10).mean() >= 0.88
