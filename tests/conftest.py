"What every test shares: the checkout's folder, and real feed files where a machine has them."

import os
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
