# The commands a person types. `make run` and `make test` do all set-up on a fresh machine; `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
SOURCE ?=
PORT   ?= 5000

export PATH := $(abspath $(VENV))/bin:$(PATH)
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= agg
export HF_HUB_OFFLINE ?= 1
export MLFLOW_DISABLE_TELEMETRY = true
export DO_NOT_TRACK = true

READY     := $(VENV)/.ready
# Every lesson cell of every notebook, two notebooks at a time, each in a process of its own; outputs are written back, then cleaned.
LESSONS   = ls nbs/lib/*.ipynb nbs/docs/*.ipynb nbs/index.ipynb | xargs -P 2 -n 1 sh -c \
  'out=$$(nbdev-test "$$0" --save --n-workers 0 --timing) && echo "$${out\#Success.}" | tail -n 1 || { echo "$$out"; echo "$$0 failed"; exit 1; }'; \
  status=$$?; nbdev-clean; exit $$status

.DEFAULT_GOAL := help
.PHONY: help setup run test check nb readme models lab mlflow clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1|/' | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: $(READY)  ## make .venv and install everything, once (again when pyproject.toml or constraints.txt change)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "grocery needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true). Name another one: make setup PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing into $(VENV), once (a few minutes) ..."
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq -c constraints.txt -e '.[all]'
	@$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

run: $(READY)  ## the whole job, feeds to report; SOURCE=path reads your feed files instead of the sample market
	@grocery run $(if $(SOURCE),-p source="$(SOURCE)")

test: $(READY)  ## everything that proves it, in order; the last line is pytest's
	@$(MAKE) --no-print-directory check

# Runs the lessons, so the outputs kept in the notebooks are compared with what comes out now. Nothing may differ at the end from what stood there at the start.
check:
	@rm -rf .build/before && mkdir -p .build/before && cp -r nbs grocery README.md .build/before/
	ruff format --check nbs tests
	ruff check nbs tests
	nbdev-export
	@$(LESSONS)
	@$(MAKE) --no-print-directory readme
	@for part in nbs grocery README.md; do diff -ru -x __pycache__ -x '.*' .build/before/$$part $$part || changed=1; done; \
	  test -z "$$changed" || { echo "The notebooks, grocery/ or README.md were not what their sources make (diff above). Read it, commit it, run again." >&2; exit 1; }
	ruff check --isolated --select F,E9 grocery
	@python -m pytest

models: $(READY)  ## train the small models that travel with the package, on a sample market of 600 products
	@rm -rf .build/models .build/market
	@python -c "from grocery.sample.market import make_sample_market as make; make('.build/market', products=600, days=2, stores_per_chain=1)"
	@python -c "from grocery.products.pairs import read_training_names as read, write_names; write_names(read(truth='.build/market/truth'), '.build/market/names.jsonl')"
	grocery run 32_train_similarity -p pairs=.build/market/names.jsonl -p out=.build/models -p dimensions=96 -p rounds=120
	grocery run 36_train_classifier -p truth=.build/market/truth -p out=.build/models
	@mkdir -p grocery/data/models && cp -r .build/models/models/similarity .build/models/models/categories grocery/data/models/

nb: $(READY)  ## after editing notebooks: export, run every lesson, keep its output, clean
	@ruff format -q nbs && ruff check -q --fix --select I nbs
	nbdev-export
	@$(LESSONS)
	@$(MAKE) --no-print-directory readme

readme:
	@jupyter nbconvert --log-level WARN --to markdown nbs/index.ipynb --output-dir .build --output README >/dev/null
	@awk '/^```/ { open = !open; if (open && $$0 == "```") $$0 = "```python" } { print }' .build/README.md | cat -s | sed -e '$${/^$$/d}' > README.md

lab: $(READY)  ## JupyterLab on 127.0.0.1
	@jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) nbs

mlflow: $(READY)  ## MLflow on 127.0.0.1, PORT=5000
	@mlflow ui --host 127.0.0.1 --port $(PORT) --workers 1 --backend-store-uri \
	  "$$(python -c 'from grocery.settings import read_settings; from grocery.track import tracking_uri; print(tracking_uri(read_settings()))')"

clean:  ## delete what running made: the lake, the runs, the reports (not .venv)
	@find data mlruns reports -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} + ; rm -rf .build
