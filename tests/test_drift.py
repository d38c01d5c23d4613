"Drift: a usual night is quiet, a changed one is heard, and nothing is said where there is nothing to compare."

import numpy as np
import pandas as pd
import pytest

from grocery.errors import SourceError
from grocery.products.classify import write_classifier
from grocery.products.drift import (
    SIGNALS,
    append_quality,
    find_decline,
    make_signals,
    read_reference,
    run_drift,
    score_quality,
    score_signals,
    write_reference,
)
from grocery.products.learn import fit_ensemble
from grocery.sample import products as market


@pytest.fixture(scope="module")
def parts():
    products = market.make_products(200)
    items = market.make_items(products).merge(products[["product_id", "category"]], on="product_id")
    even = items.product_id.str[-1].isin(list("02468"))
    return items[even], items[~even]


@pytest.fixture(scope="module")
def model(parts):
    return fit_ensemble(parts[0][["product_id", "item_name", "category"]])


def test_same_names_have_not_drifted_and_others_have(parts, model, tmp_path):
    names = parts[1].item_name.tolist()
    reference = make_signals(names, model)
    same = score_signals(reference, reference)
    assert not same.drifted.any() and (same.distance.abs() < 1e-6).all() and set(same.signal) == set(SIGNALS)
    other = score_signals(reference, make_signals([n[:8] for n in names], model), tmp_path / "drift.html")
    assert other.set_index("signal").drifted[["letters", "words", "confidence"]].all()
    assert (tmp_path / "drift.html").stat().st_size > 100_000


def test_the_reference_survives_and_holds_no_name(parts, model, tmp_path):
    reference = make_signals(parts[1].item_name.tolist(), model)
    write_reference(reference, tmp_path)
    assert len(read_reference(tmp_path)) == len(reference) and list(read_reference(tmp_path)) == SIGNALS
    with pytest.raises(SourceError, match="allowed"):
        read_reference(tmp_path / "none")


def test_quality_is_kept_night_by_night(parts, model):
    good, bad = (
        score_quality(model, rows, day)
        for rows, day in ((parts[1], "2026-01-02"), (parts[1].assign(item_name="חלב"), "2026-01-03"))
    )
    history = append_quality(append_quality(pd.DataFrame(), bad), good)
    assert history.day.tolist() == ["2026-01-02", "2026-01-03"] and find_decline(history)[0]
    assert len(append_quality(history, good)) == 2 and not find_decline(history.head(1))[0]
    assert score_quality(model, parts[1].assign(category="neverheard"), "2026-01-04").empty
    assert np.isfinite(history.macro_f1).all()


def test_a_night_with_nothing_is_a_sentence(model, parts, tmp_path):
    empty = pd.DataFrame(columns=["product_id", "item_name", "category"])
    assert "nothing to compare" in run_drift(str(tmp_path / "none"), "", empty).message
    write_reference(make_signals(parts[1].item_name.tolist(), model), write_classifier(model, tmp_path / "model"))
    night = run_drift(str(tmp_path / "model"), "", parts[1], str(tmp_path), day="2026-01-02")
    assert "not enough names" in night.message and night.signals.empty and len(night.quality) == 1
