"""What the fuzzer found stays found, and a few seconds of the same grammar without it."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grocery.feeds.check import read_feed
from grocery.feeds.scan import can_scan
from tests.fuzz import invariants as holds
from tests.fuzz.grammar import NAMES, Choices, make_feed

FIXTURES = Path(__file__).parent / "fixtures" / "fuzz"
CHEAP = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


def replay(target: str, data: bytes) -> None:
    "Do with a fixture what its target does; fixtures are plain files, not choices."
    if target == "text":
        holds.check_decoding(data, [1, 7, 64])
        holds.check_decoding(data, [3])
    if target == "names":
        holds.check_name(data.decode())
        return
    for name in NAMES[:3]:
        holds.check_reading(data, name)
        for sizes, head in (([1], 200), ([7, 300, 2], 300), ([64], 1 << 16)):
            holds.check_alike(holds.lengthen(data), name, sizes, head, 200)


ACCEPTED = {
    "diff-broken-record-first.xml": 7,
    "diff-cdata-with-a-comment-mark.xml": 9,
    "diff-cdata-with-records.xml": 9,
    "diff-comment-that-never-ends.xml": 7,
    "diff-comment-with-a-closing-tag.xml": 9,
    "diff-last-record-closes-with-a-blank.xml": 8,
    "diff-last-record-is-empty.xml": 7,
    "diff-loser-with-the-latest-date.xml": 8,
    "diff-record-that-never-began.xml": 8,
    "diff-text-in-the-list.xml": 7,
    "raw-blanks-first.xml": 1,
    "raw-declares-its-type-late.xml": 0,
    "raw-starts-with-half-a-mark.xml": 0,
    "text-gzip-in-three-parts.gz": 1,
    "text-zip-member-without-a-name.zip": 1,
    "text-zip-of-another-method.zip": 0,
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_no_row_of_a_fixture_is_lost(name):
    assert read_feed((FIXTURES / name).read_bytes(), NAMES[0]).ledger["accepted"] == ACCEPTED[name]


@pytest.mark.parametrize("path", sorted(FIXTURES.iterdir()), ids=lambda path: path.name)
def test_what_the_fuzzer_found_stays_found(path):
    replay(path.name.partition("-")[0], path.read_bytes())


def test_fixtures_are_there_and_small():
    sizes = [path.stat().st_size for path in FIXTURES.iterdir()]
    assert len(sizes) >= 8 and max(sizes) < 2000


@settings(CHEAP, max_examples=150)
@given(st.binary(min_size=60, max_size=400))
def test_feeds_of_the_grammar_are_read(data):
    holds.check_reading(*make_feed(data))


@settings(CHEAP, max_examples=60)
@given(
    st.binary(min_size=60, max_size=300),
    st.lists(st.integers(1, 400), min_size=1, max_size=4),
    st.sampled_from([50, 300, 1 << 16]),
)
def test_fast_scan_and_chunks_change_nothing(data, sizes, head):
    feed, name = make_feed(data)
    holds.check_alike(holds.lengthen(feed), name, sizes, head, 300, guard=can_scan())


@settings(CHEAP, max_examples=200)
@given(
    st.text(max_size=60)
    | st.from_regex(r"(?i)(null)?(price|promo|stores)(full)?-?\d{8,13}[-.\dx]{0,30}", fullmatch=True)
)
def test_names_of_every_kind(text):
    holds.check_name(text)


@settings(CHEAP, max_examples=200)
@given(
    st.binary(max_size=300), st.binary(min_size=60, max_size=60), st.lists(st.integers(1, 90), min_size=1, max_size=3)
)
def test_bytes_become_text_wherever_they_are_cut(data, feed, sizes):
    holds.check_decoding(data, sizes)
    holds.check_decoding(make_feed(feed + data)[0], sizes)


def test_the_harness_sees_what_it_looks_for():
    "A check that cannot fail would find nothing."
    data, name = make_feed(b"\0" * 60)
    feed = holds.read_with(data, name, fast=False, head=1 << 16)
    other = holds.read_with(data.replace(b"6.90", b"6.91", 1), name, fast=False, head=1 << 16)
    assert feed.ledger["rows_in"]
    with pytest.raises(AssertionError, match="differs"):
        holds.check_same(feed, other, "one price")
    feed.ledger["duplicates"] += 1
    with pytest.raises(AssertionError, match="does not add up"):
        holds.check_feed(feed, data)
    assert Choices(b"\1").pick("ab") == "b"


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="no compiler for the fast scan")
def test_guards_see_what_is_written_before_an_array():
    import numpy as np

    inside, before = holds.guarded(np.zeros(10, np.int32))
    inside[:] = 7
    assert (before == holds.CANARY).all()
    before[-1] = 0
    assert not (before == holds.CANARY).all()
