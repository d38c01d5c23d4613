"""The packages of the lab live in one process.

torch, faiss, xgboost and lightgbm each bring an OpenMP runtime of their own. Two of them in one process are known to hang or crash, depending on who
was imported first; so every order runs in a fresh process that must end in time, and each library does a small parallel job.
"""

import os
import subprocess
import sys

import pytest

PACKAGES = {  # distribution -> import name
    "jupyterlab": "jupyterlab",
    "papermill": "papermill",
    "nbdev": "nbdev",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "mlflow": "mlflow",
    "sentence-transformers": "sentence_transformers",
    "faiss-cpu": "faiss",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "optuna": "optuna",
    "prophet": "prophet",
    "pmdarima": "pmdarima",
    "evidently": "evidently",
    "pytest": "pytest",
}
LISTED = list(PACKAGES.values())
ORDERS = {
    "as listed": (LISTED, 1),
    "backwards": (LISTED[::-1], 1),
    "trees first, two threads": (
        ["lightgbm", "xgboost", "faiss", *(p for p in LISTED if p not in ("lightgbm", "xgboost", "faiss"))],
        2,
    ),
}
SECONDS = 240  # some 15 are enough; a hang never ends

PROGRAM = """
import sys, warnings
from importlib import import_module
warnings.simplefilter("ignore")
names = sys.argv[1:]
for name in names:
    import_module(name)
print("imported", len(names))

import numpy as np, torch, faiss, xgboost, lightgbm
rng = np.random.default_rng(7)
x = rng.normal(size=(2000, 16)).astype("float32")
y = x[:, 0] * 2 + rng.normal(scale=0.1, size=2000)

def torch_job():
    a = torch.from_numpy(x)
    return np.allclose((a.T @ a).numpy(), x.T @ x, rtol=1e-3, atol=1e-2)

def faiss_job():
    index = faiss.IndexFlatL2(16)
    index.add(x)
    return (index.search(x[:200], 1)[1][:, 0] == np.arange(200)).all()

def xgboost_job():
    model = xgboost.XGBRegressor(n_estimators=20, max_depth=3).fit(x[:1500], y[:1500])
    return np.corrcoef(model.predict(x[1500:]), y[1500:])[0, 1] > 0.9

def lightgbm_job():
    model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(x[:1500], y[:1500])
    return np.corrcoef(model.predict(x[1500:]), y[1500:])[0, 1] > 0.9

jobs = {"torch": torch_job, "faiss": faiss_job, "xgboost": xgboost_job, "lightgbm": lightgbm_job}
first = [n for n in names if n in jobs] or list(jobs)
for name in [*first, *(n for n in jobs if n not in first), *reversed(jobs)]:
    print(name, bool(jobs[name]()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_the_packages_work_in_one_process(order, tmp_path):
    names, threads = ORDERS[order]
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MPLBACKEND": "agg",
    }
    command = [sys.executable, "-c", PROGRAM, *names]
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as hung:
        pytest.fail(f"{order}: hung after {(hung.stdout or b'').decode().split(chr(10))[-2:]}")
    assert done.returncode == 0, f"{order}: ended with {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}"
    said = [line.split() for line in done.stdout.splitlines()]
    assert said[0] == ["imported", str(len(PACKAGES))]
    assert len(said) == 9 and all(line[1] == "True" for line in said[1:]), done.stdout


def test_every_package_is_asked_for(root):
    "The fifteen stand in pyproject.toml, or beneath a package that does."
    from importlib.metadata import packages_distributions

    installed = packages_distributions()
    assert {d: n for d, n in PACKAGES.items() if not installed.get(n)} == {}
    asked = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert [d for d in PACKAGES if f'"{d}' not in asked] == []
