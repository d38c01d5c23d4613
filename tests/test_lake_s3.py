"""The same lake at an s3:// address: a real server that speaks S3 on loopback, real processes, real deaths."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from test_ingest import everything, last_versions, run_cli, write_market

from grocery.errors import LakeError
from grocery.store.ingest import ingest
from grocery.store.lake import _marks, open_lake, take_lease
from grocery.store.staging import find_staging, lock_lake
from grocery.store.upkeep import compact_lake, vacuum_lake
from grocery.tables import make_table

pytest.importorskip("moto.server", reason="no S3 server: moto[server] is not installed")
SECRET = "hush-hush-secret"
SERVE = (
    "import sys, time; from moto.server import ThreadedMotoServer; "
    "s = ThreadedMotoServer('127.0.0.1', 0, verbose=False); s.start(); print(s.get_host_and_port()[1], flush=True); "
    "import boto3; c = boto3.client('s3', endpoint_url=f'http://127.0.0.1:{s.get_host_and_port()[1]}', region_name='us-east-1', "
    "aws_access_key_id='clerk', aws_secret_access_key='x'); c.create_bucket(Bucket='shelf'); print('ready', flush=True); time.sleep(3600)"
)


@pytest.fixture(scope="module")
def server():
    "A server with one bucket; its port."
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    port = int(process.stdout.readline())
    assert process.stdout.readline().strip() == "ready"
    yield port
    process.kill()
    process.wait()


@pytest.fixture
def shelf(server, tmp_path, monkeypatch) -> str:
    "An address of a lake that is not there yet, and the environment that leads to it."
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    return f"s3://shelf/{tmp_path.name}/lake"


def environment(port: int, tmp_path: Path) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "clerk",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
        "GROCERY_DATA_DIR": str(tmp_path / "data"),
    }


def start(lake: str, paths: list[Path], batch: int = 4) -> subprocess.Popen:
    code = (
        "import sys; from grocery.store.ingest import ingest; from grocery.store.lake import open_lake; "
        f"ingest(sys.argv[2:], open_lake(sys.argv[1]), workers=1, batch={batch}, wait=120, say=lambda s: print(s, file=sys.stderr, flush=True))"
    )
    return subprocess.Popen([sys.executable, "-c", code, lake, *map(str, paths)], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_make_ingest_ask_and_ask_as_of_are_as_in_a_folder(shelf, tmp_path):
    paths = write_market(tmp_path / "feeds", days=3, stores=2)
    done = ingest(paths, open_lake(shelf), workers=1, batch=5)
    ingest(paths, open_lake(tmp_path / "lake"), workers=1)
    assert everything(shelf) == everything(tmp_path / "lake") and done.totals["files"] == 12
    assert ingest(paths, open_lake(shelf), workers=1).skipped == 12
    query = "SELECT store_id, item_code, price_ils FROM prices_now ORDER BY ALL"
    for moment in (None, "2026-03-01", "2026-03-02T11:00", "2020-01-01"):
        here, there = (open_lake(place, as_of=moment).sql(query) for place in (tmp_path / "lake", shelf))
        assert here.equals(there) and (here.num_rows > 0) == (moment != "2020-01-01")
    first = open_lake(shelf, version=1)
    assert 0 < first.read("prices").num_rows < open_lake(shelf).read("prices").num_rows
    open_lake(shelf).overwrite("products", make_table("products", [{"product_id": "1"}]))
    assert open_lake(shelf).sql("SELECT product_id FROM products")["product_id"].to_pylist() == ["1"]
    assert open_lake(Path(shelf)).path == shelf  # a Path has eaten a slash


def test_the_command_line_at_an_address(shelf, tmp_path):
    write_market(tmp_path / "feeds", days=1, stores=1)
    empty = run_cli("sql", "SELECT 1 FROM prices", "--lake", shelf)
    assert empty.returncode == 2 and "There is no lake at s3://" in empty.stderr
    done = run_cli("ingest", tmp_path / "feeds", "--lake", shelf, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["lake"] == shelf, done.stderr
    asked = run_cli("sql", "SELECT count(*) AS n FROM prices", "--lake", shelf, "--format", "json")
    assert json.loads(asked.stdout)[0]["n"] >= 10 and asked.stderr == ""
    assert SECRET not in done.stdout + done.stderr + asked.stdout and list(find_staging(shelf).parent.glob("*")) == []


@pytest.mark.slow
def test_what_a_dead_writer_left_is_taken_back(shelf, tmp_path):
    paths = write_market(tmp_path / "feeds", days=4, stores=2)
    ingest(paths, open_lake(tmp_path / "whole"), workers=1)
    ingest(paths[:4], open_lake(shelf), workers=1)
    writer = start(shelf, paths, batch=2)
    while last_versions(shelf) == _marks(shelf) and writer.poll() is None:
        time.sleep(0.005)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    counted = everything(shelf)
    assert len(counted["files"]) < 16
    began = time.monotonic()
    ingest(paths[:1], open_lake(shelf), workers=1, wait=0)  # at once: the dead one ran on this machine
    assert time.monotonic() - began < 10 and everything(shelf) == counted and last_versions(shelf) == _marks(shelf)
    ingest(paths, open_lake(shelf), workers=1)
    assert everything(shelf) == everything(tmp_path / "whole")


@pytest.mark.slow
def test_three_writers_at_one_address_one_killed(shelf, tmp_path):
    paths = write_market(tmp_path / "feeds", days=3, stores=2)
    ingest(paths, open_lake(tmp_path / "whole"), workers=1)
    parts = [paths[:6], paths[3:9], paths[8:]]
    writers = [start(shelf, part) for part in parts]
    from grocery.store.lake import _fresh

    while not (lease := _fresh(shelf, "_lease")) or not lease.history(1)[0].get("grocery"):
        time.sleep(0.01)
    pid = json.loads(lease.history(1)[0]["grocery"]).get("pid")
    (victim,) = [w for w in writers if w.pid == pid] or writers[:1]
    time.sleep(0.3)
    victim.kill()
    said = [writer.communicate(timeout=120)[1] for writer in writers]
    assert [w.returncode for w in writers if w is not victim] == [0, 0], said
    again = start(shelf, parts[writers.index(victim)])
    assert again.communicate(timeout=120) and again.returncode == 0
    assert everything(shelf) == everything(tmp_path / "whole")


def rows(lake: str) -> list[dict]:
    return open_lake(lake).sql("SELECT * FROM prices ORDER BY ALL").to_pylist()


@pytest.mark.slow
def test_upkeep_at_an_address(shelf, tmp_path):
    paths = write_market(tmp_path / "feeds", days=2, stores=1)
    for path in sorted(paths, key=lambda p: p.name[-13:]):
        ingest(path, open_lake(shelf), workers=1)
    before, last = rows(shelf), open_lake(shelf).versions()["files"]
    report = compact_lake(open_lake(shelf))
    assert rows(shelf) == before and report["files"][1] < report["files"][0] < report["files_kept"][1]
    assert vacuum_lake(open_lake(shelf), keep_days=1)["removed_files"] == 0
    assert open_lake(shelf, version=last).read("prices").num_rows == len(before)
    done = vacuum_lake(open_lake(shelf), keep_days=0)
    assert done["removed_files"] > 5 and done["bytes_kept"][1] < done["bytes_kept"][0] and rows(shelf) == before
    with pytest.raises(LakeError, match="vacuum"):
        open_lake(shelf, version=2).read("prices")
    with pytest.raises(LakeError, match="vacuum"):
        open_lake(shelf, version=2).sql("SELECT max(price_ils) FROM prices")


def test_one_lease_at_a_time_even_across_machines(shelf, monkeypatch):
    import grocery.store.lake as module

    with lock_lake(shelf) as lease:
        with pytest.raises(LakeError, match=f"process {os.getpid()} on"), lock_lake(shelf):
            pass
        monkeypatch.setattr(module, "is_gone", lambda writer: None)  # as another machine sees it
        monkeypatch.setattr(module, "SILENT", 0.4)
        assert isinstance(take_lease(shelf), dict)
        time.sleep(0.5)  # no sign of life in all that time
        other = take_lease(shelf)
        assert not isinstance(other, dict) and other.died_at == lease.me["began"]
        monkeypatch.setattr(module, "BEAT", 0.01)
        lease._done.set()
        lease._thread.join()
        lease._done.clear()
        lease._live()  # the next sign of life of the first
        with pytest.raises(LakeError, match="another writer"):
            lease.touch()
        other.release()


def test_a_living_writer_elsewhere_keeps_its_lease(shelf, monkeypatch):
    import grocery.store.lake as module

    monkeypatch.setattr(module, "BEAT", 0.05)
    monkeypatch.setattr(module, "SILENT", 1.0)
    monkeypatch.setattr(module, "is_gone", lambda writer: None)
    with lock_lake(shelf):
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert isinstance(take_lease(shelf), dict)
            time.sleep(0.1)


# --- errors -------------------------------------------------------------------------------------------------------------------------


def problem(lake: str, write: bool = True) -> str:
    "The one line that a question, or a write, ends with."
    with pytest.raises(LakeError) as caught:
        open_lake(lake).sql("SELECT count(*) FROM prices")
    said = [str(caught.value)]
    if write:
        with pytest.raises(LakeError) as caught:
            open_lake(lake).overwrite("products", make_table("products", [{"product_id": "1"}]))
        said.append(str(caught.value))
    assert all("\n" not in line and SECRET not in line and "\x1b" not in line for line in said)
    return " ".join(said)


def test_no_such_bucket(shelf, tmp_path):
    assert problem("s3://nobody/lake").count("there is no such bucket") == 2
    write_market(tmp_path / "feeds", days=1, stores=1)
    done = run_cli("ingest", tmp_path / "feeds", "--lake", "s3://nobody/lake")
    assert done.returncode == 2 and "no such bucket" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("address", ["ftp://host/lake", "s3://", "s3:///", "http://host/lake", "memory://x"])
def test_an_address_of_no_known_kind(address):
    with pytest.raises(LakeError, match="allowed is a folder, or s3://BUCKET/PREFIX"):
        open_lake(address)


def test_an_endpoint_that_is_no_address(shelf, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not a url")
    assert problem(shelf).count("AWS_ENDPOINT_URL: received 'not a url', allowed") == 2


def test_plain_http_must_be_allowed(shelf, monkeypatch):
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    assert "AWS_ALLOW_HTTP" in problem(shelf)


def test_a_wrong_key(server, shelf):
    def allow(count: int) -> None:
        address = f"http://127.0.0.1:{server}/moto-api/reset-auth"
        asked = urllib.request.Request(address, str(count).encode(), {"Content-Type": "text/plain"})
        urllib.request.urlopen(asked).close()

    open_lake(shelf).overwrite("products", make_table("products", [{"product_id": "1"}]))
    allow(0)
    try:
        assert problem(shelf).count("refuses the key") == 2
    finally:
        allow(10**9)


def test_the_server_is_gone(shelf, monkeypatch):
    import grocery.store.lake as module

    monkeypatch.setitem(module._PATIENCE, "retry_timeout", "1s")
    monkeypatch.setitem(module._PATIENCE, "max_retries", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert problem(shelf).count("does not answer") == 2


def test_the_server_goes_while_a_lake_is_written_and_nothing_is_lost(tmp_path, monkeypatch):
    "The writer ends with one line; at the next try everything is there."
    import grocery.store.lake as module

    process = subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True)
    port = int(process.stdout.readline())
    process.stdout.readline()
    for name, value in environment(port, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(module._PATIENCE, "retry_timeout", "1s")
    monkeypatch.setitem(module._PATIENCE, "max_retries", "1")
    paths = write_market(tmp_path / "feeds", days=2, stores=1)
    write, left = module._write_delta, [3]

    def cut(*args, **how):
        left[0] -= 1
        if left[0] == 0:
            process.send_signal(signal.SIGSTOP)
            process.kill()
            process.wait()
        write(*args, **how)

    monkeypatch.setattr(module, "_write_delta", cut)
    try:
        with pytest.raises(LakeError, match="does not answer"):
            ingest(paths, open_lake("s3://shelf/lake"), workers=1)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert list(find_staging("s3://shelf/lake").glob("*/ledger.json"))  # what was read is kept
