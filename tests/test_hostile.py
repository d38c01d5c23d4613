"""Files made to break the reader: each is refused or read, with a reason, in bounded memory and time."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not sys.platform.startswith("linux"),
    reason="the peak of a child's memory is read from /proc",
)

ALL = {"cpu_s": 8.0, "peak_mb": 420}
REFUSED = {  # case -> what must stand in the problems
    "entity_laughs": "document type",
    "entity_outside": "document type",
    "entity_late": "document type",
    "entity_within": "",
    "bomb_gzip": "unpacks to more",
    "bomb_gzip_members": "refused",
    "bomb_gzip_nested": "unpacks to more",
    "bomb_gzip_records": "unpacks to more",
    "bomb_zip": "unpacks to more",
    "bomb_zip_bzip2": "neither stored nor deflated",
    "bomb_zip_lzma": "neither stored nor deflated",
    "bomb_zip_many_files": "more than 10,000 files",
    "deep_before": "10,000 deep",
    "attribute_huge": "more than 16 MB",
    "record_huge": "more than 16 MB",
    "comment_never_ends": "more than 16 MB",
    "comment_inside_never_ends": "more than 16 MB",
    "cdata_inside_never_ends": "more than 16 MB",
    "key_far_away": "no record in the first 32 MB",
    "records_never_closed": "ends before its last tag",
    "no_key_at_all": "no field that names",
    "text_endless": "not XML",
    "table_one_line": "not XML",
}
READ = {  # case -> rows accepted
    "bomb_gzip_tiny_members": 1,
    "bomb_gzip_one_byte_members": 1,
    "bomb_gzip_utf16_members": 1,
    "archive_names": 1,
    "deep_inside": 2,
    "deep_promotion": 0,
    "attributes_many": 2,
    "record_of_empty_fields": 1,
    "records_long_names": 0,
    "records_empty_short": 1,
    "records_never_closed_but_once": 1,
    "records_closed_only": 1,
    "records_apart": 5_000,
    "stores_many": 5_000,
    "places_in_records": 50_000,
    "promotion_of_many_items": 0,
    "promotion_of_wide_groups": 0,
    "promotion_of_many_groups": 0,
    "promotion_of_many_clubs": 0,
    "pattern_tag": 1,
    "pattern_tags": 1,
    "pattern_leaf": 1,
    "pattern_comment": 0,
    "pattern_cdata": 1,
    "pattern_declared": 0,
    "pattern_count": 1,
    "pattern_money": 0,
    "pattern_entity": 1,
    "pattern_names": 77,
    "prefixes_many": 1,
    "blanks_before": 1,
    "key_quite_far_away": 1,
    "header_endless": 1,
    "names_strange": 8,
    "names_all_different": 100_000,
    "table_quotes": 0,
    "table_open_quotes": 0,
}


@pytest.fixture(scope="module")
def measured(root) -> dict[str, dict]:
    "Every case, read in a process of its own; two at a time."
    cases = [*REFUSED, *READ]
    calls = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.hostile", *some],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for some in (cases[::2], cases[1::2])
    ]
    said = [call.communicate(timeout=300) for call in calls]
    assert not any(call.returncode for call in calls), [error[-2000:] for _, error in said]
    return {line["case"]: line for lines, _ in said for line in map(json.loads, lines.splitlines())}


@pytest.mark.parametrize("case", [*REFUSED, *READ])
def test_a_hostile_file_costs_little_and_its_ledger_adds_up(measured, case):
    found = measured[case]
    assert "died" not in found
    assert found["cpu_s"] < ALL["cpu_s"] and found["peak_mb"] < ALL["peak_mb"], found
    assert found["rows_in"] == found["accepted"] + sum(found["rejected"].values()) + found["duplicates"]
    assert found["layout"] <= 500


@pytest.mark.parametrize("case", [case for case, said in REFUSED.items() if said])
def test_what_is_refused_says_why(measured, case):
    assert not measured[case]["complete"]
    assert any(REFUSED[case] in problem for problem in measured[case]["problems"]), measured[case]["problems"]


@pytest.mark.parametrize("case", READ)
def test_what_can_be_read_is_read(measured, case):
    assert measured[case]["accepted"] == READ[case]
