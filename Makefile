# Every target sets up what it needs. `make` alone says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
FUZZ_READY := $(VENV)/.fuzz-ready
RELEASE_READY := $(VENV)/.release-ready
RIVALS := .cache/rivals
RIVALS_READY := $(RIVALS)/.ready

.PHONY: help demo run test test-real test-made-up test-engines fuzz bench bench-continuity bench-names bench-hosts bench-growth bench-page soak screenshots check lint release lock audit clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 26

demo: $(READY) ## A real deploy by the real Kamal, before your eyes (root on Debian; else a recording)
	@$(BIN)/python -m tests.lab.demo

run: $(READY) ## Serve from this machine's own engine
	$(BIN)/kamal-sd serve

test: check ## All the tests, on real engines (root on Debian)
	$(BIN)/coverage erase
	@$(MAKE) --no-print-directory --jobs=2 test-real test-made-up
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/coverage report --include='app/discovery/*,app/deployfile/*,app/model.py,app/grammar.py,app/engine/ledger.py,app/engine/parse.py' --fail-under=100

# The halves of `make test`, side by side. The real programs are waited for, and go first.
test-real: $(READY)
	$(BIN)/coverage run -m pytest -m real

test-made-up: $(READY)
	nice $(BIN)/coverage run -m pytest -m 'not real'

test-engines: $(READY) ## Other engines, many hosts, and docs/engines.md anew: 14 minutes (root on Debian)
	$(BIN)/python -m pytest tests/engines --table docs/engines.md

fuzz: $(FUZZ_READY) ## Look for what no test has thought of: 10 minutes (Linux on amd64)
	EXPLORE=$(EXAMPLES) $(BIN)/python -m pytest tests/test_properties.py
	$(BIN)/python -m tests.fuzz $(SECONDS)
EXAMPLES := 1000
SECONDS := 30

bench: $(BENCH_READY) $(RIVALS_READY) ## How fast it is, beside others; docs/speed.md anew: 17 minutes (root on Debian)
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-continuity: $(BENCH_READY) ## What deploys do to time series, way by way: 40 minutes (root on Debian)
	$(BIN)/python -m tests.benchmarks.continuity $(BENCH)

bench-names: $(READY) ## What managed names do while Kamal deploys: 10 minutes (root on Debian)
	$(BIN)/python -m tests.benchmarks.names $(BENCH)

bench-hosts: $(READY) ## What deploys to many hosts do to a Prometheus outside: 5 minutes (root on Debian)
	$(BIN)/python -m tests.benchmarks.hosts $(BENCH)

bench-growth: $(READY) ## What an event costs with up to 100 engines and 10,000 containers: 3 minutes
	$(BIN)/python -m tests.benchmarks.growth

bench-page: $(READY) ## The page with 1,000 slots beside one with 10: 2 minutes (root on Debian)
	$(BIN)/python -m tests.benchmarks.page

soak: $(READY) ## Deploys, faults and scrapes at once for hours: BENCH='--minutes 240' (root on Debian)
	$(BIN)/python -m tests.benchmarks.soak $(BENCH)

screenshots: $(READY) ## The pictures of the page in docs/ (root on Debian)
	$(BIN)/python -m tests.lab.screenshots

check: $(READY) ## Format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lint: $(READY) ## Mend what can be mended, then check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

release: $(RELEASE_READY) ## Wheel, sdist, SBOM, notes and image of the last commit, in dist/
	@BIN=$(BIN) .ci/release $(PARTS)

lock: $(READY) ## Take the newest dependencies that pyproject.toml allows
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --upgrade -o requirements.lock
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --upgrade --group dev -c requirements.lock -o requirements-dev.lock
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --upgrade --group bench -c requirements.lock -c requirements-dev.lock -o requirements-bench.lock
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --upgrade --group fuzz -c requirements.lock -c requirements-dev.lock -o requirements-fuzz.lock
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --upgrade --group release -c requirements.lock -c requirements-dev.lock -o requirements-release.lock
	$(BIN)/uv pip compile $(LOCK) --upgrade --group rivals -o requirements-rivals.lock
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

audit: $(READY) ## Ask PyPI for known advisories on what is locked
	$(BIN)/pip install --quiet uv
	$(BIN)/uvx --quiet pip-audit --strict --disable-pip --require-hashes $(LOCKS:%=-r %)
LOCKS := requirements.lock requirements-dev.lock requirements-bench.lock requirements-release.lock

clean: ## Remove what these targets made
	rm -rf $(VENV) .cache .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

# Debian has venv in a package of its own.
$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { \
	    echo 'This needs Python 3.11 with venv: apt-get install python3-venv' >&2; exit 1; }; \
	  apt-get -qq update && apt-get -qq install -y python3-venv; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'This needs Python 3.11 or newer; name it with make PYTHON=python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH_READY): $(READY) requirements-bench.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

$(FUZZ_READY): $(READY) requirements-fuzz.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	@touch $@

# What stands beside kamal-sd in `make bench` has dependencies of its own.
$(RIVALS_READY): requirements-rivals.lock
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-rivals.lock
	@touch $@

$(RELEASE_READY): $(READY) requirements-release.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-release.lock
	@touch $@
