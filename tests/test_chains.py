"""The registry of chains: its words are checked and used, every chain is found by every name, nothing secret stands in it."""

import csv
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocery.errors import SourceError
from grocery.feeds.chains import (
    ENGINES,
    QUIRKS,
    STATUSES,
    active_chains,
    find_chain,
    find_chains,
    make_chain,
    read_chains,
    say_quirks,
)
from grocery.feeds.names import parse_name
from grocery.feeds.portals import find_bases, open_portal

CHAINS = [find_chain(slug) for slug in read_chains()["slug"]]


def test_slugs_are_unique_and_good_folders():
    slugs = [chain.slug for chain in CHAINS]
    assert len(set(slugs)) == len(slugs) >= 39
    assert all(re.fullmatch(r"[a-z][a-z0-9_]+", slug) for slug in slugs)


def test_every_engine_status_and_quirk_is_used():
    "A word that no row uses is dead."
    assert {chain.engine for chain in CHAINS} == set(ENGINES)
    assert {chain.status for chain in CHAINS} == set(STATUSES) - {"unknown"}
    assert {word for chain in CHAINS for word in chain.quirks} == set(QUIRKS)


@pytest.mark.parametrize("word", [word for word, quirk in QUIRKS.items() if quirk.heeded_by != "files"])
def test_a_quirk_is_heeded_where_it_says(word, root):
    code = (root / "grocery/feeds" / f"{QUIRKS[word].heeded_by}.py").read_text(encoding="utf-8")
    assert f'"{word}"' in code or f"'{word}'" in code


def test_every_quirk_is_said():
    for chain in CHAINS:
        assert len(say_quirks(chain)) >= len(chain.quirks)
        assert not any("{}" in sentence for sentence in say_quirks(chain))


@pytest.mark.parametrize("chain", active_chains(), ids=lambda chain: chain.slug)
def test_an_active_chain_can_be_opened(chain, monkeypatch):
    "Its address fits its engine; nothing is asked yet."
    if chain.password_env:
        monkeypatch.setenv(chain.password_env, "secret")
    assert chain.addresses and chain.kinds
    for base in find_bases(chain, environ={}):
        with open_portal(chain, base=base) as portal:
            assert portal.batches(()) and portal.chain is chain


def test_who_is_folded_into_whom_exists():
    slugs = {chain.slug for chain in CHAINS}
    folded = {chain.slug: chain.folded_into for chain in CHAINS if chain.folded_into}
    assert folded and set(folded.values()) <= slugs
    assert all(find_chain(slug).status == "active" for slug in folded.values())


def test_every_id_and_name_is_found():
    for chain in CHAINS:
        assert find_chain(chain.slug) is chain
        for name in (*chain.ids, *chain.names):
            found = find_chain(name)
            assert found.status != "unknown"
            assert name in (*found.ids, *found.names) or found.slug == chain.slug
    for chain in active_chains():
        assert find_chain(chain.chain_id).slug == chain.slug, "an active row goes before a legacy one"
        assert find_chain(f"  {chain.name_english.upper()} ").slug == chain.slug
        assert find_chain(chain.name_hebrew).slug == chain.slug


@pytest.mark.parametrize("name", ["٣٣٣٣", "³³³", "x" * 100_000])
def test_what_is_no_id_is_no_chain(name):
    with pytest.raises(SourceError) as error:
        find_chain(name)
    assert len(str(error.value)) < 2000


@given(st.from_regex(r"[0-9]{3,14}", fullmatch=True))
def test_any_id_is_a_chain(chain_id):
    chain = find_chain(chain_id)
    assert chain.status == "unknown" or chain_id.lstrip("0") in {i.lstrip("0") for i in chain.ids}
    assert chain.status != "unknown" or (chain.chain_id == chain_id and chain.engine == "")


@given(st.text(max_size=30))
def test_any_text_is_a_chain_or_a_clear_error(text):
    try:
        assert find_chain(text).slug
    except SourceError as error:
        assert "Unknown chain" in str(error)


def test_a_slip_of_the_pen_is_met_with_a_guess():
    with pytest.raises(SourceError, match="Did you mean .*[Ss]hufersal"):
        find_chain("shufersl")
    with pytest.raises(SourceError, match="רמי לוי"):
        find_chain("רמי לווי")


def test_find_chains_gives_each_once():
    assert [c.slug for c in find_chains(["7290027600007", "Shufersal", "victory"])] == ["shufersal", "victory"]
    assert find_chains(None) == active_chains() == find_chains([])


@pytest.mark.parametrize(
    "column, value",
    [
        ("quirks", "no_such_word=1"),
        ("quirks", "name_length=many"),
        ("engine", "pigeon"),
        ("status", "dead"),
        ("kinds", "Prices"),
    ],
)
def test_a_wrong_row_is_refused(column, value):
    row = dict.fromkeys(read_chains().columns, "") | {
        "slug": "x",
        "chain_id": "7290000000001",
        "engine": "wolt",
        "kinds": "Price",
        "status": "active",
    }
    make_chain(row)
    with pytest.raises(SourceError):
        make_chain(row | {column: value})


def test_no_password_stands_in_the_table():
    "Each login names its variable; no column can hold a secret."
    text = (files("grocery") / "data" / "chains.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert "password" not in rows[0]
    for row in rows:
        assert row["password_env"] == (f"GROCERY_PASSWORD_{row['slug'].upper()}" if row["login"] else "")
        assert bool(row["login"]) == ("password=" in row["quirks"])


# --- the real world's list and files


@pytest.mark.realdata
def test_every_known_chain_is_in_the_registry(realdata):
    with (realdata / "chains.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 39
    for row in rows:
        ids = [row["chain_id"], *re.findall(r"\d{7,13}", row["other_ids"])]
        for chain_id in ids:
            assert find_chain(chain_id).status != "unknown", chain_id
        same = [c for c in CHAINS if row["chain_id"] == c.chain_id and c.status == row["status"]]
        assert same, row["chain_id"]
        assert any(not row["user"] or row["user"] == c.login for c in same)
        wanted = {
            kind
            for kind in re.split(r"\W+", row["file_types"])
            if kind in ("Stores", "Price", "PriceFull", "Promo", "PromoFull")
        }
        assert row["status"] != "active" or any(wanted == set(c.kinds) for c in same), row["chain_id"]


@pytest.mark.realdata
def test_the_chains_of_real_files_are_known(realdata):
    names = [p.name for p in (realdata / "feeds").rglob("*") if p.is_file()]
    ids = {chain_id for name in names if (chain_id := parse_name(name).chain_id)}
    assert len(ids) > 15
    assert not {chain_id for chain_id in ids if find_chain(chain_id).status == "unknown"}
