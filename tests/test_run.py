"""What hunts in the runner: wrong calls, failing notebooks, and work that must or must not be repeated."""

import dataclasses
import json
import os
import time
from datetime import date
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from grocery.errors import GroceryError, LakeError, PipelineError, SourceError
from grocery.run import (
    Step,
    check_parameters,
    find_pipelines,
    find_place,
    kernel_environment,
    read_parameters,
    run_all,
    run_pipeline,
    type_parameter,
)
from grocery.settings import Settings
from grocery.track import open_client, open_tracker

DAY = date(2026, 3, 1)
COMMON = 'lake: str = ""\nout: str = ""\nrun_id: str = ""\nseed: int = 7\n'
WRITE = """
import pandas as pd
from grocery.track import open_tracker
tracker = open_tracker(run_id, out)
tracker.table("{name}", pd.DataFrame({{"x": [{x}]}}))
tracker.metrics({{"x": {x}}})
"""


def write_pipeline(folder: Path, name: str, parameters: str, code: str, tag: str = "parameters") -> Path:
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": [tag]}), nbformat.v4.new_code_cell(code)]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture(scope="session")
def mlruns(tmp_path_factory) -> Path:
    """One tracking store for the session: making it costs seconds."""
    return tmp_path_factory.mktemp("mlruns")


@pytest.fixture
def settings(tmp_path, mlruns, monkeypatch) -> Settings:
    """Settings of an own folder; the code counts as unchanged whatever happens to grocery/ meanwhile."""
    monkeypatch.setattr("grocery.run.code_version", lambda: "1")
    return Settings(
        root=tmp_path,
        data_dir=tmp_path / "data",
        lake=str(tmp_path / "lake"),
        reports_dir=tmp_path / "reports",
        mlruns_dir=mlruns,
    )


@pytest.fixture
def source(tmp_path) -> Path:
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "PriceFull.xml").write_text("<Root/>")
    return tmp_path / "feeds"


def read_runs(settings: Settings, name: str) -> list:
    client = open_client(settings)
    experiment = client.get_experiment_by_name("grocery")
    return client.search_runs([experiment.experiment_id], f"run_name = '{name}'")


# ---- wrong calls, all refused before a kernel starts


def test_unknown_pipeline_and_parameter_name_the_nearest(tmp_path, settings, source):
    folder = tmp_path / "pipelines"
    write_pipeline(folder, "42_baskets", COMMON + "baskets = 3", "")
    with pytest.raises(PipelineError, match="Did you mean 42_baskets"):
        run_pipeline("42_basket", settings=settings, folder=folder, parameters={"source": source})
    with pytest.raises(PipelineError, match="'basket'.*Did you mean baskets"):
        run_pipeline("42_baskets", settings=settings, folder=folder, parameters={"source": source, "basket": "3"})
    with pytest.raises(PipelineError, match="parameter of the whole job: 'basket'"):
        run_all(settings=settings, folder=folder, parameters={"basket": "3"}, steps=(Step("42_baskets"),))
    assert not (tmp_path / "reports").exists() and not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("value", "default"),
    [
        ("two", 1),
        ("1.5", 1),
        (True, 1),
        (None, 1),
        ("", 1),
        ("nan", 1.0),
        ("x", 0.5),
        ("2", True),
        ("maybe", False),
        (3, "text"),
        (None, "text"),
        ([1], 1),
        ("1e400000e", 1.0),
    ],
)
def test_wrong_types_are_refused(value, default):
    with pytest.raises(PipelineError, match="received .* allowed"):
        type_parameter("p", value, default)


@pytest.mark.parametrize(
    ("value", "default", "typed"),
    [("28", 7, 28), (28, 7, 28), ("-1", 7, -1), ("1", 0.5, 1.0), ("1e-3", 0.5, 0.001), (1, 0.5, 1.0)]
    + [("no", True, False), ("TRUE", False, True), (False, True, False), ("7", "", "7"), (Path("a"), "", "a")],
)
def test_values_take_the_type_of_the_default(value, default, typed):
    got = type_parameter("p", value, default)
    assert got == typed and type(got) is type(typed)


def test_a_notebook_without_the_tag_or_with_clever_defaults_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="0 cells tagged"):
        read_parameters(write_pipeline(tmp_path, "10_a", COMMON, "", tag="parameter"))
    with pytest.raises(PipelineError, match="seed = "):
        read_parameters(write_pipeline(tmp_path, "11_b", "seed = len('abc')", ""))
    broken = tmp_path / "12_c.ipynb"
    broken.write_text("{not a notebook")
    with pytest.raises(PipelineError, match="cannot be read as a notebook"):
        check_parameters(broken, {})


def test_missing_source_and_missing_pipelines_are_one_line(tmp_path, settings):
    with pytest.raises(SourceError, match="is not there") as error:
        run_all(settings=settings, parameters={"source": tmp_path / "nowhere"})
    assert "\n" not in str(error.value)
    with pytest.raises(PipelineError, match="No pipelines in"):
        find_pipelines(tmp_path)


def test_a_closed_lake_is_refused_before_anything_runs(tmp_path, settings, source):
    folder = tmp_path / "pipelines"
    write_pipeline(folder, "10_in", COMMON, "")
    (tmp_path / "lake").mkdir(mode=0o555)
    given = {"source": source, "lake": tmp_path / "lake"}
    with pytest.raises(LakeError, match="cannot be written") as error:
        run_all(settings=settings, folder=folder, parameters=given, steps=(Step("10_in"),), say=str)
    assert "\n" not in str(error.value) and not (tmp_path / "reports").exists()


def test_two_folders_of_one_name_are_two_places(tmp_path, settings):
    for part in ("a", "b"):
        (tmp_path / part / "feeds").mkdir(parents=True)
    one, two = (find_place(tmp_path / part / "feeds", settings=settings) for part in ("a", "b"))
    assert one.lake != two.lake and one.folder != two.folder and one.name.startswith("feeds-")
    assert find_place(tmp_path / "a" / "feeds", tmp_path / "mine", settings=settings).lake == str(tmp_path / "mine")


# ---- one notebook


def test_a_run_keeps_notebook_parameters_metrics_and_tags(tmp_path, settings, source):
    code = "import os, sys\nprint(sys.executable, os.environ['OMP_NUM_THREADS'], horizon * 2)" + WRITE.format(
        name="a", x="horizon"
    )
    folder = tmp_path / "pipelines"
    write_pipeline(folder, "44_good", COMMON + "horizon: int = 7", code)
    result = run_pipeline(
        "44_good", settings=settings, folder=folder, day=DAY, parameters={"source": source, "horizon": "28"}, say=str
    )
    assert pd.read_parquet(result.notebook.parent / "results" / "a.parquet")["x"].tolist() == [28]
    text = "".join(o["text"] for c in nbformat.read(result.notebook, 4).cells for o in c.get("outputs", []))
    assert text.split()[1:] == ["1", "56"] and Path(text.split()[0]).exists()
    (run,) = read_runs(settings, "44_good")
    assert run.info.status == "FINISHED" and run.data.params["horizon"] == "28" and run.data.metrics["x"] == 28
    assert {"git_commit", "lake_version", "code_version"} <= set(run.data.tags)
    kept = {f.path for f in open_client(settings).list_artifacts(run.info.run_id)}
    assert kept == {"44_good.ipynb", "tables"} and run.info.artifact_uri.startswith(settings.mlruns_dir.as_uri())


def test_a_failing_notebook_fails_its_run_and_says_where(tmp_path, settings, source):
    folder = tmp_path / "pipelines"
    write_pipeline(folder, "44_bad", COMMON, "raise ValueError('no prices at all\\nsecond line')")
    with pytest.raises(PipelineError) as error:
        run_pipeline("44_bad", settings=settings, folder=folder, day=DAY, parameters={"source": source}, say=str)
    message = str(error.value)
    assert "44_bad failed in cell" in message and "ValueError: no prices at all" in message and "\n" not in message
    kept = Path(message.split("notebook: ")[1])
    assert kept.is_file() and "no prices at all" in kept.read_text()
    (run,) = read_runs(settings, "44_bad")
    assert run.info.status == "FAILED"
    assert not (kept.parent / "results" / ".stamps" / "44_bad.json").exists()


def test_a_kernel_that_dies_is_an_error_not_a_hang(tmp_path, settings, source):
    folder = tmp_path / "pipelines"
    write_pipeline(folder, "44_dead", COMMON, "import os; os._exit(9)")
    with pytest.raises(PipelineError, match="44_dead failed"):
        run_pipeline("44_dead", settings=settings, folder=folder, day=DAY, parameters={"source": source}, say=str)
    assert read_runs(settings, "44_dead")[0].info.status == "FAILED"


def test_the_kernel_sees_the_runners_settings(settings):
    given = kernel_environment(dataclasses.replace(settings, threads=3))
    assert given["OMP_NUM_THREADS"] == "3" and given["GROCERY_MLRUNS_DIR"] == str(settings.mlruns_dir)
    assert given["PYTHONPATH"].split(os.pathsep)[0] == str(Path(__file__).resolve().parents[1])


# ---- the whole job


def execute_here(notebook: Path, target: Path, parameters: dict, settings: Settings) -> None:
    """Execute a notebook without a kernel, to be quick: what is tested below is what is run, not how."""
    first, *others = [c.source for c in nbformat.read(notebook, 4).cells]
    names: dict = {}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.read(notebook, 4), target)
    try:
        exec(first, names)
        names |= parameters
        for code in others:
            exec(code, names)
    except Exception as error:
        raise PipelineError(f"Pipeline {notebook.stem} failed: {type(error).__name__}: {error}.") from None


@pytest.fixture
def job(tmp_path, settings, source, monkeypatch):
    """Three steps: the second needs the first, the third reads the second."""
    monkeypatch.setattr("grocery.run._execute", execute_here)
    folder = tmp_path / "pipelines"
    write_pipeline(folder, "10_in", COMMON + 'source: str = ""', WRITE.format(name="in", x=1))
    write_pipeline(folder, "42_mid", COMMON + "size: int = 1", WRITE.format(name="mid", x="size") + "\n1 / size")
    write_pipeline(folder, "90_end", COMMON, WRITE.format(name="end", x=3))
    steps = (Step("10_in"), Step("42_mid", ("10_in",)), Step("90_end", ("10_in",), ("42_mid",)))

    def run(day=DAY, force=False, **parameters):
        given = {"source": source, **parameters}
        lines = []
        result = run_all(
            settings=settings, folder=folder, day=day, force=force, steps=steps, parameters=given, say=lines.append
        )
        return [s.status for s in result.steps], result, lines

    run.folder, run.steps, run.settings, run.source = folder, steps, settings, source
    return run


def test_done_work_is_not_repeated_and_changed_work_is(job):
    assert job()[0] == ["done", "done", "done"]
    began = time.perf_counter()
    statuses, result, lines = job()
    assert statuses == ["skipped"] * 3 and time.perf_counter() - began < 2 and "already done" in lines[0]
    # a parameter changes: its step and those that read it
    assert job(size=2)[0] == ["skipped", "done", "done"]
    # an output is gone: only its step
    (result.place.out / "end.parquet").unlink()
    assert job(size=2)[0] == ["skipped", "skipped", "done"]
    # the source changes: everything
    (job.source / "Stores.xml").write_text("<Root/>")
    assert job(size=2)[0] == ["done", "done", "done"]
    # the next day: what was made yesterday is copied
    assert job(day=date(2026, 3, 2), size=2)[0] == ["skipped"] * 3
    assert (job.settings.reports_dir / "2026-03-02" / result.place.name / "results" / "mid.parquet").is_file()


def test_force_and_a_changed_notebook_run_again(job):
    job()
    write_pipeline(job.folder, "90_end", COMMON, WRITE.format(name="end", x=4))
    assert job()[0] == ["skipped", "skipped", "done"]
    assert job(force=True)[0] == ["done", "done", "done"]


def test_a_failed_step_leaves_nothing_stale_and_does_not_stop_its_neighbours(job):
    _, result, _ = job()
    with pytest.raises(PipelineError, match="42_mid failed.*ZeroDivisionError"):
        job(size=0)
    assert (
        not (result.place.out / ".stamps" / "42_mid.json").exists() and not (result.place.out / "mid.parquet").exists()
    )
    assert (result.place.out / "end.parquet").exists()
    # what failed is tried again, and what needs a failed step is not run
    write_pipeline(job.folder, "10_in", COMMON + 'source: str = ""', "raise OSError('disk full')")
    with pytest.raises(PipelineError, match="disk full.*Not run because of it: 42_mid, 90_end") as error:
        job()
    assert "\n" not in str(error.value)
    assert not (result.place.out / "in.parquet").exists()


# ---- the door to MLflow


def test_without_a_run_the_tracker_only_writes_to_out(tmp_path):
    tracker = open_tracker(out=tmp_path)
    tracker.params({"a": 1})
    tracker.metrics({"b": float("nan"), "c": None})
    tracker.table("t", pd.DataFrame({"name": ["חלב"]}))
    assert pd.read_parquet(tmp_path / "t.parquet")["name"].tolist() == ["חלב"]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    with pytest.raises(GroceryError, match="Cannot log"):
        tracker.file(tmp_path / "absent.html")


def test_a_table_that_cannot_be_written_leaves_no_half_file(tmp_path):
    with pytest.raises(Exception, match="(?i)convert|mixed|expected"):
        open_tracker(out=tmp_path).table("t", pd.DataFrame({"x": [1, "a", object()]}))
    assert list(tmp_path.iterdir()) == []


def test_models_are_kept_under_out_and_replaced_whole(tmp_path):
    for text, name in (("old", "a.bin"), ("new", "b.bin")):
        model = tmp_path / f"made_{text}"
        model.mkdir()
        (model / name).write_text(text)
        kept = open_tracker(out=tmp_path / "out").model_folder(model, "encoder")
    assert [p.name for p in kept.iterdir()] == ["b.bin"] and kept == tmp_path / "out" / "models" / "encoder"


def test_a_stamp_that_is_no_json_is_no_stamp(job):
    stamp = find_place(job.source, day=DAY, settings=job.settings).out / ".stamps" / "10_in.json"
    stamp.parent.mkdir(parents=True)
    stamp.write_text(json.dumps({"step": "10_in"})[:-3])
    from grocery.run import _find_done

    assert _find_done(find_place(job.source, day=DAY, settings=job.settings), "10_in", "x", "y") == {}


def test_a_pipeline_that_reads_a_lake_asks_for_one(tmp_path):
    with pytest.raises(PipelineError, match="there is none at"):
        run_pipeline("42_baskets", parameters={"lake": str(tmp_path / "nowhere")})
    assert not (tmp_path / "nowhere").exists()


def test_what_is_derived_from_a_lake_does_not_make_it_another(tmp_path):
    "Findings, figures and products are made from what was read: writing them repeats no step; a new file does."
    from grocery.run import lake_signature
    from grocery.store.ingest import ingest
    from grocery.store.lake import FACTS, open_lake
    from grocery.tables import TABLES

    def read(number: int) -> str:
        item = "<Item><ItemCode>7</ItemCode><ItemName>a</ItemName><ItemPrice>1.00</ItemPrice></Item>"
        xml = f"<Root><ChainId>7290000000001</ChainId><StoreId>{number}</StoreId><Items>{item}</Items></Root>"
        path = tmp_path / f"PriceFull7290000000001-{number:03}-202603010600.xml"
        path.write_text(xml)
        ingest(path, open_lake(tmp_path / "lake"), workers=1)
        return lake_signature(str(tmp_path / "lake"))

    first = read(1)
    derived = [name for name in TABLES if name not in ("files", "audit", *FACTS)]
    for name in derived:
        open_lake(tmp_path / "lake").overwrite(name, TABLES[name].schema.empty_table())
    assert "findings" in derived and lake_signature(str(tmp_path / "lake")) == first
    assert read(2) != first
