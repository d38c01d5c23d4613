"""Other engines read the same tables and get the same rows: nothing of the lake is ours alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_ingest import write_market

from grocery.store.ingest import ingest
from grocery.store.lake import open_lake
from grocery.store.upkeep import compact_lake
from grocery.tables import TABLES

NAMES = ("files", "prices", "items", "store_files", "rejects")


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    "A lake with a past: several commits, replaced rows, a compaction, one more commit."
    folder = tmp_path_factory.mktemp("engines")
    paths = sorted(write_market(folder / "feeds", days=4, stores=2), key=lambda p: p.name[-13:])
    (folder / "feeds" / "bad.xml").write_text(
        "<Root><ChainId>7290000000001</ChainId><StoreId>1</StoreId><Item><ItemCode>7</ItemCode><ItemPrice>-1</ItemPrice></Item></Root>"
    )
    ingest([*paths[:4], folder / "feeds" / "bad.xml"], open_lake(folder / "lake"), workers=1)
    ingest(paths[4:9], open_lake(folder / "lake"), workers=1)
    compact_lake(open_lake(folder / "lake"))
    ingest(paths[9:], open_lake(folder / "lake"), workers=1)
    return folder / "lake"


def by_duckdb(lake: Path, name: str) -> list[tuple]:
    "Every row as the lake itself tells it, as text."
    columns = ", ".join(_text(f.name, f.type) for f in TABLES[name].schema)
    rows = open_lake(lake).sql(f"SELECT {columns} FROM {name}").to_pylist()
    return sorted(tuple(str(v) for v in row.values()) for row in rows)


def _text(name: str, kind) -> str:
    return f"epoch_us({name}) AS {name}" if str(kind).startswith("timestamp") else f"CAST({name} AS VARCHAR) AS {name}"


@pytest.mark.parametrize("name", NAMES)
def test_polars_reads_the_same_rows(lake, name):
    pl = pytest.importorskip("polars")
    version = open_lake(lake).versions()[name]
    frame = pl.scan_delta(str(lake / name), version=version).collect()
    assert frame.columns == [n for n in TABLES[name].schema.names] or set(frame.columns) == set(
        TABLES[name].schema.names
    )
    rows = [_plain(row) for row in frame.select(TABLES[name].schema.names).to_dicts()]
    assert sorted(rows) == by_duckdb(lake, name) and (rows or name == "rejects")


def _plain(row: dict) -> tuple:
    "A row as text, as DuckDB writes it."

    def plain(value) -> str:
        if isinstance(value, pd.Timestamp) or hasattr(value, "timestamp"):
            return str(int(pd.Timestamp(value).value // 1000))
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return f"[{', '.join(value)}]"
        return str(value)

    return tuple(plain(v) for v in row.values())


def test_polars_answers_as_the_lake_does(lake):
    pl = pytest.importorskip("polars")
    frame = pl.scan_delta(str(lake / "prices"), version=open_lake(lake).versions()["prices"])
    told = frame.filter(pl.col("valid_to").is_null()).group_by("store_id").agg(pl.len(), pl.col("price_ils").sum())
    query = "SELECT store_id, count(*) AS n, sum(price_ils) AS s FROM prices_now GROUP BY 1 ORDER BY 1"
    ours = [(r["store_id"], r["n"], r["s"]) for r in open_lake(lake).sql(query).to_pylist()]
    assert sorted(told.collect().iter_rows()) == ours and len(ours) == 2


SPARK = """
import sys
from pyspark.sql import SparkSession
from pyspark.sql.functions import col, expr
files, base, out = sys.argv[3:], sys.argv[1], sys.argv[2]
spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.session.timeZone", "UTC").config("spark.sql.shuffle.partitions", "1")
    .getOrCreate())
frame = spark.read.option("basePath", base).parquet(*files)
told = frame.groupBy("store_id").agg(expr("count(*) AS n"), expr("sum(price_ils) AS s"),
    expr("count_if(valid_to IS NULL) AS lasting"), expr("min(unix_micros(valid_from)) AS first"), expr("count(DISTINCT file_id) AS files"))
with open(out, "w") as file:
    for row in sorted(told.collect()):
        file.write(",".join(map(str, row)) + chr(10))
spark.stop()
"""


@pytest.mark.slow
def test_spark_reads_the_same_rows(lake, tmp_path):
    "Through the log's list of files: Spark's own Delta reader is a JAR that no Python index carries."
    pytest.importorskip("pyspark", reason="no Spark: pyspark is not installed")
    if not shutil.which("java"):
        pytest.skip("no Spark: there is no Java here")
    from deltalake import DeltaTable

    table = DeltaTable(str(lake / "prices"), version=open_lake(lake).versions()["prices"])
    files = [path.removeprefix("file://") for path in table.file_uris()]
    assert len(files) < len(list((lake / "prices").rglob("*.parquet")))  # some belong to the past
    command = [sys.executable, "-c", SPARK, str(lake / "prices"), str(tmp_path / "out"), *files]
    quiet = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=os.environ | quiet)
    assert done.returncode == 0, done.stderr[-2000:]
    query = """SELECT store_id, count(*) AS n, sum(price_ils) AS s, count(*) FILTER (WHERE valid_to IS NULL) AS lasting,
        min(epoch_us(valid_from)) AS first, count(DISTINCT file_id) AS files FROM prices GROUP BY 1 ORDER BY 1"""
    ours = [",".join(map(str, row.values())) for row in open_lake(lake).sql(query).to_pylist()]
    assert (tmp_path / "out").read_text().splitlines() == ours and len(ours) == 2
