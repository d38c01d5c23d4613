"The registry: versions, aliases, who takes whose place; against a real MLflow store."

import pytest

from grocery.errors import SettingsError
from grocery.models import find_model, is_champion, register_models
from grocery.settings import Settings
from grocery.track import end_run, open_client, open_tracker, start_run


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    root = tmp_path_factory.mktemp("registry")
    return Settings(root=root, data_dir=root / "data", mlruns_dir=root / "mlruns", reports_dir=root / "reports")


def offer(settings: Settings, text: str, score: float, judged_on: str, source: str, name: str = "similarity") -> dict:
    "Run a pipeline's part by hand: train, note, end, register."
    made, out = settings.root / f"made-{text}", settings.root / "out"
    made.mkdir()
    (made / "weights.txt").write_text(text)
    run_id = start_run(settings, "32_train")
    kept = open_tracker(run_id, out).model(made, name, f"# {text}", score, judged_on)
    assert (kept / "card.md").read_text() == f"# {text}"
    end_run(settings, run_id, "FINISHED", out)
    return register_models(settings, run_id, source)


def used(settings: Settings, model: str) -> str:
    return (find_model(model, settings) / "weights.txt").read_text()


def test_models_get_versions_and_take_each_others_place_by_the_rule(settings):
    assert offer(settings, "first", 0.95, "sample", "sample") == {"similarity": "champion"}
    assert offer(settings, "real", 0.60, "chains", "pairs.jsonl") == {"similarity": "champion"}, "other data: newer"
    assert offer(settings, "worse", 0.55, "chains", "pairs.jsonl") == {"similarity": "challenger"}
    assert offer(settings, "toy", 0.99, "sample", "sample") == {"similarity": "challenger"}, "the sample gives way"
    assert used(settings, "similarity@champion") == used(settings, "similarity") == "real"
    assert used(settings, "similarity@challenger") == used(settings, "similarity@newest") == "toy"
    assert used(settings, "similarity@1") == "first", "every version stays"
    assert offer(settings, "better", 0.61, "chains", "pairs.jsonl") == {"similarity": "champion"}
    assert used(settings, "similarity@champion") == "better"
    open_client(settings).set_registered_model_alias("similarity", "champion", "2")  # undone by hand
    assert used(settings, "similarity@champion") == "real"
    with pytest.raises(SettingsError, match=r"similarity@champion.*similarity@newest"):
        find_model("similarity@chmpion", settings)


def test_a_run_that_offers_nothing_registers_nothing(settings):
    run_id = start_run(settings, "10_ingest")
    end_run(settings, run_id)
    assert register_models(settings, run_id, "sample") == {}


def test_asking_makes_no_store_and_a_folder_is_a_model(tmp_path):
    settings = Settings(root=tmp_path, data_dir=tmp_path, mlruns_dir=tmp_path / "mlruns")
    assert find_model(str(tmp_path), settings) == tmp_path
    with pytest.raises(SettingsError, match="Unknown model"):
        find_model("nothing@champion", settings)
    assert not (tmp_path / "mlruns").exists()


def test_equal_is_enough_on_the_same_data():
    champion = {"score": 0.5, "judged_on": "a", "source": "x"}
    assert is_champion(champion, champion) and is_champion(champion, None)
    assert not is_champion(champion | {"score": 0.4}, champion)
