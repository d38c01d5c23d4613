"""What hunts in the report: hostile text, missing pieces, references to elsewhere, and a page that is too wide for a phone."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocery.evaluate import make_evaluation, score_models
from grocery.report import clean_text, format_day, format_money, format_percent, make_report

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}</style>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp; \x00\x07\u202eםולש\u2066",
    "javascript:alert(1)",
    "https://evil.example/x.png",
    "ארוך" * 5000,
    "W" * 5000,
]


def write_tables(out: Path, names: list[str], words: list[str] | None = None) -> Path:
    """Write a small result of every pipeline, with `names` where names of things go and `words` (or the names again) in all other text."""
    out.mkdir(parents=True, exist_ok=True)
    words = words or names
    n, name, word = len(names), np.array(names, dtype=object), np.array(words, dtype=object)
    chain = {"chain_id": [f"A{i}" for i in range(n)], "chain_name": name}
    moment, day = pd.Timestamp("2026-06-30 04:00", tz="UTC"), pd.Timestamp("2026-06-30")
    ledger = {
        "files": 9,
        "incomplete_files": 1,
        "stores": 3,
        "rows_in": 1000,
        "accepted": 990,
        "rejected": 10,
        "loss_share": 0.01,
    }
    loss = {"what": "row", "reason": "bad_price", "meaning": word, "count": 10, "share": 0.01, "example": name}
    store = {
        "store_id": "001",
        "store_name": name,
        "city": name,
        "name_hebrew": name,
        "name_english": word,
        "missing": word,
    }
    basket = {
        "rank": range(1, n + 1),
        "compared_ils": np.arange(n) + 50.0,
        "lines": 12,
        "compared_by": "shared lines (10 of 12)",
    }
    move = {
        "item_name": name,
        "before_ils": 5.0,
        "after_ils": 7.0,
        "change": np.where(np.arange(n) % 2, 0.4, -0.3),
        "stores": 3,
    }
    move |= {"moved_stores": 2, "unconfirmed": 1, "since": day - pd.Timedelta(days=28), "until": day}
    level = {"level": 1.02, "low": 1.01, "high": 1.03, "products": 200, "rivals": 1}
    error = {
        "item_name": name,
        "store_name": name,
        "starts_on": day,
        "price_ils": 69.0,
        "expected_ils": 6.9,
        "reason": word,
    }
    drift = {
        "category": name,
        "drifted": True,
        "change": 0.1,
        "median_before": 1.0,
        "median_after": 1.1,
        "distance": 0.2,
    }
    fresh = {"newest_at": moment, "stores": 3, "stale_stores": 1}
    tables = {
        "ingest_chains": chain | ledger | {"last_published_at": moment},
        "ingest_losses": chain | loss,
        "baskets": chain | store | basket | {"basket_id": "b"},
        "moves": chain | move,
        "levels": chain | level,
        "anomalies": chain | error,
        "drift": drift,
        "freshness": chain | fresh,
        "forecast_notes": {"table": word, "note": word},
    }
    for table, columns in tables.items():
        pd.DataFrame(columns).to_parquet(out / f"{table}.parquet")
    make_forecasts(names).assign(model=words[0]).to_parquet(out / "forecasts.parquet")
    metrics = pd.DataFrame(
        {
            "model": word,
            "value": 0.8,
            "low": 0.7,
            "high": 0.9,
            "is_baseline": np.arange(n) < 1,
            "is_chosen": np.arange(n) == n - 1,
        }
    )
    rows = [row for area in words for row in score_models(area, metrics.assign(metric="mrr", split="test", n=10))]
    make_evaluation(rows, score_models(words[0], pd.DataFrame())).to_parquet(out / "evaluation.parquet")
    return out


def make_forecasts(names: list[str]) -> pd.DataFrame:
    days = pd.date_range("2026-06-01", periods=40)
    one = pd.DataFrame({"day": days, "kind": np.where(np.arange(40) < 30, "history", "forecast"), "mean": 6.9})
    one["low"], one["high"] = (one["mean"].where(one["kind"] == "forecast") * k for k in (0.9, 1.1))
    parts = [
        one.assign(series_id=str(i), label=label, level="item" if i else "index", model="")
        for i, label in enumerate(names)
    ]
    return pd.concat(parts, ignore_index=True)


class Reader(HTMLParser):
    """Collects what a browser would see: elements, attributes, text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


def read_page(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    out = write_tables(tmp_path_factory.mktemp("report") / "results", HOSTILE)
    return make_report(out, source=HOSTILE[0], day="2026-06-30", title=HOSTILE[1], made={"commit": HOSTILE[2]})


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    out = write_tables(
        tmp_path_factory.mktemp("report") / "results",
        ["חלב 3% נועם 1 ליטר", "Milk & דבש"],
        ["plain words", "more words"],
    )
    return make_report(out, source="פידים", day="2026-06-30")


def test_hostile_text_is_shown_and_does_nothing(hostile):
    reader, tame = (
        read_page(hostile),
        {"bdi", "html", "head", "meta", "title", "style", "body", "svg", "line", "polyline", "polygon"},
    )
    made = read_page(make_report(hostile.parent / "absent", hostile.parent / "empty.html"))
    assert not {"script", "img", "iframe", "object", "link", "form", "base"} & set(reader.tags)
    assert reader.tags.count("style") == 1
    assert not [k for k, _ in reader.attributes if k.startswith("on") or k in ("src", "srcdoc", "formaction")]
    assert set(reader.tags) - set(made.tags) - tame <= {
        "article",
        "b",
        "code",
        "figure",
        "figcaption",
        "i",
        "li",
        "ol",
        "ul",
        "span",
        "div",
        "h3",
        "p",
    }
    text = "".join(reader.text)
    assert "<script>alert(1)</script>" in text and "{{ 7 * 7 }}" in text and "49{%" not in text
    assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069]", hostile.read_text(encoding="utf-8"))


def test_names_from_files_stand_alone_for_the_browsers_bidi(plain):
    page = plain.read_text(encoding="utf-8")
    outside = re.sub(r"<bdi dir=\"auto\">[^<]*</bdi>", "", page)
    assert page.count("נועם") >= 8 and not re.search("[\u0590-\u05ff]", outside)


@pytest.mark.parametrize("which", ["hostile", "plain"])
def test_the_page_needs_nothing_from_elsewhere(which, request):
    page = request.getfixturevalue(which)
    reader, raw = read_page(page), page.read_text(encoding="utf-8")
    links = [v for k, v in reader.attributes if k in ("href", "src", "xlink:href", "action", "data", "poster")]
    assert links and all(v.startswith("#") for v in links)
    style = re.search("<style>(.*?)</style>", raw, re.S)[1]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in raw
    ids = {v for k, v in reader.attributes if k == "id"}
    assert {v[1:] for v in links} <= ids
    assert page.stat().st_size < 3_000_000


def test_every_missing_piece_is_named(tmp_path):
    page = make_report(tmp_path / "results").read_text(encoding="utf-8")
    for pipeline in ("10_ingest", "42_baskets", "44_train_forecast", "49_evaluate"):
        assert f"The pipeline {pipeline} left no result" in page
    sections = re.findall(r'<section id="([a-z-]+)">(.*?)</section>', page, re.S)
    assert len(sections) == 8
    for name, text in sections:
        assert len(re.sub("<[^>]+>|\\s", "", text)) > 60, f"section {name} is blank"


def test_a_note_of_a_pipeline_is_passed_on(tmp_path):
    pd.DataFrame({"table": ["forecasts"], "note": ["not enough history: 1 day, 28 needed"]}).to_parquet(
        tmp_path / "forecast_notes.parquet"
    )
    pd.DataFrame(columns=["series_id", "label", "level", "model", "kind", "day", "mean", "low", "high"]).to_parquet(
        tmp_path / "forecasts.parquet"
    )
    page = html.unescape(make_report(tmp_path, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.lower().count("not enough history: 1 day, 28 needed") >= 2


def test_baskets_that_nobody_covers_and_forecasts_without_intervals_are_said(tmp_path):
    out = write_tables(tmp_path / "results", ["a", "b"])
    for name, columns in (("baskets", ["rank", "compared_ils"]), ("forecasts", ["low", "high"])):
        table = pd.read_parquet(out / f"{name}.parquet")
        table[columns] = np.nan
        table.to_parquet(out / f"{name}.parquet")
    page = make_report(out).read_text(encoding="utf-8")
    assert "2 stores cover too few lines to be compared" in page and "no interval, too little history" in page


@given(st.one_of(st.text(max_size=300), st.none(), st.floats(), st.integers()))
def test_any_text_becomes_one_clean_line(text):
    line = clean_text(text)
    assert len(line) <= 80 and not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069]", line)


@given(st.floats(0, 1))
def test_a_share_that_is_not_all_never_says_all(share):
    text = format_percent(share)
    assert (text == "100.0%") == (share == 1) or share > 1 - 1e-15
    assert (text == "0.0%") == (share == 0)


def test_unknown_numbers_say_so():
    assert format_money(float("nan")) == format_percent(None) == format_day(pd.NaT) == format_day("") == "unknown"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium to lay the page out")
@pytest.mark.parametrize("which", ["hostile", "plain"])
def test_no_sideways_scrolling_on_a_phone(which, request, tmp_path):
    page = request.getfixturevalue(which).read_text(encoding="utf-8")
    script = "const f=document.querySelector('iframe');f.onload=()=>{const d=f.contentDocument;document.title='width '+d.documentElement.scrollWidth}"
    wrapper = f'<body><iframe style="width:360px;height:800px;border:0"></iframe><script>{script};f.srcdoc={json.dumps(page).replace("</", "<" + chr(92) + "/")}</script>'
    (tmp_path / "wrapper.html").write_text(wrapper, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=5000",
        "--dump-dom",
        f"file://{tmp_path / 'wrapper.html'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    width = re.search(r"<title>width (\d+)</title>", done.stdout)
    assert width and int(width[1]) <= 360, width and width[0]
