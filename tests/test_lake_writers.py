"""Several processes write one lake at the same moment, and some of them die: at the end it is the lake of one undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_ingest import everything, last_versions, leftovers, write_market

from grocery.errors import LakeError
from grocery.store.ingest import ingest
from grocery.store.lake import _marks, is_gone, name_writer, open_lake
from grocery.store.staging import lock_lake
from grocery.tables import TABLES, make_table

START = (
    "import sys; sys.path.insert(0, sys.argv[2]); from bad_readers import read_slowly; "
    "from grocery.store.ingest import ingest; from grocery.store.lake import open_lake; "
    "ingest(sys.argv[3:], open_lake(sys.argv[1]), workers=1, batch=5, read=read_slowly, wait=120, "
    "say=lambda line: print(line, file=sys.stderr, flush=True))"
)


def start(lake: Path, paths: list[Path], **how) -> subprocess.Popen:
    "Begin to ingest files in a process of its own."
    command = [sys.executable, "-c", START, str(lake), str(Path(__file__).parent), *map(str, paths)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **how)


def finish(*writers: subprocess.Popen) -> list[str]:
    "Wait for writers; each must end well. What they said."
    said = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * len(writers), said
    return said


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> tuple[list[Path], dict]:
    "Forty files, and everything that one undisturbed ingest makes of them."
    folder = tmp_path_factory.mktemp("market")
    paths = write_market(folder / "feeds", days=5, stores=4)
    ingest(paths, open_lake(folder / "lake"), workers=1)
    return paths, everything(folder / "lake")


def shares(paths: list[Path], overlap: bool, seed: int) -> list[list[Path]]:
    "Three writers' files: cut in three, or half of all for each, so that most have two writers."
    chance = random.Random(seed)
    mixed = chance.sample(paths, len(paths))
    third = -(-len(paths) // 3)
    if not overlap:
        return [mixed[n : n + third] for n in range(0, len(mixed), third)]
    parts = [chance.sample(paths, len(paths) // 2) for _ in range(2)]
    return [*parts, sorted(set(paths) - set().union(*parts)) + chance.sample(paths, third)]


@pytest.mark.parametrize("overlap", [False, True], ids=["different", "overlapping"])
def test_three_writers_at_once_one_of_them_killed(market, tmp_path, overlap):
    paths, expected = market
    parts, lake = shares(paths, overlap, seed=5), tmp_path / "lake"
    writers = [start(lake, part) for part in parts]
    holder = _holder(lake, writers)
    while not list(lake.glob("prices/_delta_log/*.json")) and writers[holder].poll() is None:
        time.sleep(0.005)  # it has begun to write what does not count yet
    os.kill(writers[holder].pid, signal.SIGKILL)
    died = time.monotonic()
    others = [w for n, w in enumerate(writers) if n != holder]
    said = finish(*others)
    assert any("is being written by process" in line and "Waiting" in line for line in said)
    assert time.monotonic() - died < 60
    finish(start(lake, parts[holder]))
    assert everything(lake) == expected
    assert leftovers(lake) == [] and not (lake / ".lock").exists() and not (lake / ".staging").exists()


def _holder(lake: Path, writers: list[subprocess.Popen]) -> int:
    "Which of the writers has the lock."
    while True:
        try:
            pid = json.loads((lake / ".lock").read_text())["pid"]
            return [w.pid for w in writers].index(pid)
        except (OSError, ValueError, KeyError):
            time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_three_writers_and_kills_at_random_moments(market, tmp_path, seed):
    "Writers start and die at random, whoever they are; afterwards each share is read once more."
    paths, expected = market
    chance, lake, parts = random.Random(seed), tmp_path / "lake", shares(paths, bool(seed % 2), seed)
    for _ in range(3):
        writers = [start(lake, part) for part in parts]
        time.sleep(0.8 + 1.5 * chance.random())
        for writer in chance.sample(writers, 2):
            writer.kill()
        for writer in writers:
            writer.communicate(timeout=120)
    finish(*[start(lake, part) for part in parts])
    assert everything(lake) == expected and leftovers(lake) == []


def test_the_work_of_a_dead_writer_is_taken_back_at_once_and_written_down(market, tmp_path):
    "Even by a writer that has nothing to add."
    paths, _ = market
    lake = tmp_path / "lake"
    ingest(paths[:6], open_lake(lake), workers=1)
    before = everything(lake)
    writer = start(lake, paths)
    versions = lambda: len(list(lake.glob("prices/_delta_log/*.json")))  # noqa: E731
    begun = versions()
    while versions() == begun and writer.poll() is None:
        time.sleep(0.002)
    writer.kill()
    writer.communicate()
    counted = {r[0] for r in before["files"]}
    ingest(paths[:1], open_lake(lake), workers=1, wait=0)
    assert counted <= {r[0] for r in everything(lake)["files"]} and leftovers(lake) == []
    actions = open_lake(lake).sql("SELECT DISTINCT action FROM audit ORDER BY 1")["action"].to_pylist()
    assert actions in (["ingest"], ["ingest", "rollback"])  # it may have died just after a batch
    assert _marks(str(lake)) == last_versions(lake)


def test_a_recycled_number_is_not_taken_for_the_writer():
    me = name_writer()
    assert is_gone(me) is False and is_gone(me | {"started": "another boot 123"}) is True
    assert is_gone(me | {"host": "elsewhere"}) is None
    gone = subprocess.Popen([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE)
    gone.stdout.read()
    until = time.monotonic() + 20
    while not is_gone(me | {"pid": gone.pid}) and time.monotonic() < until:  # dead, though nobody has asked for it yet
        time.sleep(0.01)
    assert is_gone(me | {"pid": gone.pid}) is True
    gone.wait()
    assert is_gone(me | {"pid": gone.pid}) is True


def test_a_disk_without_locks_still_knows_the_dead(tmp_path, monkeypatch):
    "Where the system cannot lock a file, the process named in it is looked up."
    import grocery.store.staging as staging

    monkeypatch.setattr(staging, "_flock", lambda file: None)
    (tmp_path / "lake").mkdir()
    lock = tmp_path / "lake" / ".lock"
    with lock_lake(str(tmp_path / "lake")):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        with pytest.raises(LakeError, match=f"process {os.getpid()} on"), lock_lake(str(tmp_path / "lake")):
            pass
    lock.write_text(json.dumps(name_writer() | {"started": "another boot 123", "began": 5.0}))  # a recycled number
    with lock_lake(str(tmp_path / "lake")) as held:
        assert held.died_at == 5.0
    assert not lock.exists()


def test_a_limit_to_waiting(tmp_path):
    said, lake = [], str(tmp_path / "lake")
    with lock_lake(lake):
        began = time.monotonic()
        with pytest.raises(LakeError, match=r"Waited [01] s of 1 allowed"), lock_lake(lake, 0.6, said.append):
            pass
        assert 0.5 < time.monotonic() - began < 5 and len(said) == 1 and "Waiting" in said[0]
    with lock_lake(lake, 0.6, said.append):
        assert len(said) == 1


def test_one_taken_for_dead_that_wakes_up_cannot_write(tmp_path):
    "A writer whose lock was lost: neither its facts nor its word reach the lake, and the other's do."
    paths = write_market(tmp_path / "feeds", days=1, stores=1)
    ingest(paths, open_lake(tmp_path / "lake"), workers=1)
    reject = make_table("rejects", [{"file_id": "a", "row": 1, "reason": "bad_price"}])
    asleep = open_lake(tmp_path / "lake").begin()
    asleep.append("rejects", reject)
    other = open_lake(tmp_path / "lake").begin(died_at=time.time())
    for late in (
        lambda: asleep.append("rejects", reject),
        lambda: asleep.publish(make_table("files", [{"file_id": "a"}])),
    ):
        with pytest.raises(LakeError, match="another writer"):
            late()
    other.append("rejects", reject)
    other.publish(make_table("files", [{"file_id": "b"}]))
    assert open_lake(tmp_path / "lake").sql("SELECT count(*) AS n FROM rejects")["n"].to_pylist() == [1]
    assert open_lake(tmp_path / "lake").sql("SELECT file_id FROM files WHERE kind IS NULL")["file_id"].to_pylist() == [
        "b"
    ]


def test_a_write_by_hand_never_lets_half_an_ingest_count(tmp_path):
    paths = write_market(tmp_path / "feeds", days=1, stores=1)
    ingest(paths, open_lake(tmp_path / "lake"), workers=1)
    reject = make_table("rejects", [{"file_id": "a", "row": 1, "reason": "bad_price"}])
    writer = open_lake(tmp_path / "lake").begin()
    writer.append("rejects", reject)
    with pytest.raises(LakeError, match="not finished"):
        open_lake(tmp_path / "lake").append("rejects", reject)
    open_lake(tmp_path / "lake").overwrite("products", make_table("products", [{"product_id": "1"}]))
    writer.publish(make_table("files", [{"file_id": "a"}]))
    open_lake(tmp_path / "lake").append("rejects", reject)
    assert open_lake(tmp_path / "lake").read("rejects").num_rows == 2
    asleep = open_lake(tmp_path / "lake").begin()
    open_lake(tmp_path / "lake").append("rejects", reject)
    with pytest.raises(LakeError, match="another writer"):
        asleep.append("rejects", reject)


# --- what was done ------------------------------------------------------------------------------------------------------------------


def test_every_change_has_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr("grocery.store.lake._who", lambda: "dana@till")
    paths = write_market(tmp_path / "feeds", days=2, stores=1)
    lake = open_lake(tmp_path / "lake")
    ingest(paths, lake, workers=1, batch=2)
    lake.overwrite("products", make_table("products", [{"product_id": "1"}]))
    rows = lake.sql("SELECT * FROM audit ORDER BY done_at, table_name").to_pylist()
    files = [r for r in rows if r["table_name"] == "files"]
    assert [(r["action"], r["rows"]) for r in files] == [("ingest", 2), ("ingest", 2)]
    assert rows[-1] | {"done_at": None, "run_id": ""} == {
        **dict.fromkeys(TABLES["audit"].schema.names),
        "run_id": "",
        "who": "dana@till",
        "action": "overwrite",
        "table_name": "products",
        "version_after": 0,
        "rows": 1,
        "code_version": rows[0]["code_version"],
    }
    assert len({r["run_id"] for r in rows}) == 1 and abs((datetime.now(UTC) - rows[0]["done_at"]).total_seconds()) < 60
    seen = {}
    for row in rows:  # each table's records make one unbroken chain
        assert row["version_before"] == seen.get(row["table_name"], row["version_before"])
        seen[row["table_name"]] = row["version_after"]
    assert {n: v for n, v in lake.versions().items() if n != "audit" and v >= 0} == seen | {}


def test_audit_cannot_be_rewritten(tmp_path):
    lake = open_lake(tmp_path / "lake")
    lake.overwrite("products", make_table("products", [{"product_id": "1"}]))
    for write in (lake.overwrite, lake.append):
        with pytest.raises(LakeError, match="audit"):
            write("audit", make_table("audit", [{"who": "nobody"}]))
    assert lake.read("audit").num_rows == 1


def test_a_record_that_a_dying_writer_could_not_copy_is_copied_by_the_next(tmp_path, monkeypatch):
    import grocery.store.lake as module

    paths = write_market(tmp_path / "feeds", days=2, stores=1)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_append_audit", lambda *_: None)
        ingest(paths[:2], open_lake(tmp_path / "lake"), workers=1)
    assert open_lake(tmp_path / "lake").read("audit").num_rows == 0
    missing = module.find_unaudited(str(tmp_path / "lake"))
    (tmp_path / "lake" / ".lock").write_text(json.dumps(name_writer() | {"pid": 0, "began": time.time()}))
    ingest(paths, open_lake(tmp_path / "lake"), workers=1)
    rows = open_lake(tmp_path / "lake").read("audit").to_pylist()
    assert len(missing) > 2 and [r for r in rows if r["done_at"] == missing[0]["done_at"]] == missing
    assert module.find_unaudited(str(tmp_path / "lake")) == []
