# Two commands do all the set-up on a fresh machine: `make train` and `make test`.
PYTHON ?= python3.11
RECIPE ?= frozen_lake_tiny
BIN := .venv/bin
# One process a core, one thread each; one that has no test left takes some of another's.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

.PHONY: setup train test test-long check lint bench bench-seeds bench-long bench-credit bench-search bench-gpu scale soak docs site test-browser clean

# The runtime alone: what `make train` needs.
.venv/runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch .venv/runtime

# The runtime and everything that tests, lints and builds.
.venv/development: .venv/runtime
	$(PIP) -e ".[dev]"
	touch .venv/development

setup: .venv/development

train: .venv/runtime
	$(BIN)/lapwing train $(RECIPE)

lint: .venv/development
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/lint-imports --no-logo --no-cache > .venv/imports.log || (cat .venv/imports.log; exit 1)
	$(BIN)/pyright --warnings
	$(BIN)/python docs/build.py --check

check: lint
	$(PYTEST) -m "not slow and not long"

# Slow and fast ones in one go: everything is imported once, and nobody waits for the last slow one.
test: lint
	$(PYTEST) -m "not long"

# The report in a headless Chromium: the page of a whole run of the default recipe. Debian's packages of the browser and
# its driver are installed where they are missing (as root); `make test` runs the same tests on a short run if they are there.
test-browser: .venv/development
	command -v chromedriver > /dev/null || (apt-get update -q && apt-get install -y -q --no-install-recommends chromium chromium-driver)
	test -f runs/browser/report.html || $(BIN)/lapwing train frozen_lake_tiny --run runs/browser
	LAPWING_BROWSER=required LAPWING_RUN=$(CURDIR)/runs/browser OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

# What `make test` leaves out because it takes minutes and a shorter test guards the same code.
test-long: .venv/development
	$(PYTEST) -m long

# The runtime and TRL, which Lapwing is measured against.
.venv/peers: .venv/runtime
	$(PIP) -e ".[bench]"
	touch .venv/peers

# Speed, as ratios on short runs: against TRL and a plainly written loop, against the floor, and as the work grows.
# Figures go to docs/performance.json, the tables to docs/performance.md.
bench: .venv/peers
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/floor.py
	$(BIN)/python benchmarks/growth.py --short
	$(BIN)/python docs/build.py

# Every shipped recipe's claim, over seeds; finished seeds under runs/bench are not run again.
bench-seeds: .venv/runtime
	$(BIN)/python benchmarks/seeds.py --recipes main --seeds 8 --folder runs/bench
	$(BIN)/python benchmarks/speed.py

# Learning against TRL, all points of growth, all recipes' claims: hours.
bench-long: .venv/peers
	$(BIN)/python benchmarks/peers.py --learn 0,1,2
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/seeds.py --recipes all --seeds 8 --folder runs/bench
	$(BIN)/python docs/build.py

# Search and answer: five arms, three warm starts, eight seeds; finished runs under runs/search_qa are not run again.
bench-search: .venv/runtime
	$(BIN)/python benchmarks/search_qa.py --workers 2

# Time and memory of every credit method on a million steps.
bench-credit: .venv/runtime
	$(BIN)/python benchmarks/credit.py

# A real model's sizes at random weights: tokens a second, share of the matrix rate, memory; beside TRL where it is there.
bench-gpu: .venv/runtime
	$(BIN)/python benchmarks/gpu.py --out runs/bench_gpu.json

# A small post-trained model against a large one that was not.
scale: .venv/runtime
	$(BIN)/python benchmarks/scale.py --folder runs/scale

# What docs/reliability.md promises, tried until the numbers are full: hours, at low priority. It may be stopped and
# started again; figures go to docs/soak.json. One part: `make soak ONLY="kills"`, another length: MINUTES=30.
soak: .venv/development
	nice -n 19 $(BIN)/python benchmarks/soak.py $(if $(ONLY),--only $(ONLY)) $(if $(MINUTES),--minutes $(MINUTES))
	$(BIN)/python docs/build.py

# The generated pages.
docs: .venv/development
	$(BIN)/python docs/build.py

# The documentation as a site, in site/; any warning is an error.
site: docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -d site

clean:
	rm -rf .venv runs dist build
