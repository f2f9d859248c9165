# The single front door: `make help` lists what can be done here.
#
# Rule 1: every target brings what it needs into .venv, and only that; nothing is installed elsewhere.
# Rule 2: nothing is done twice: .venv carries a stamp for each set of packages that is in it.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
FRAME := pyproject.toml uv.lock tools/bootstrap tools/uv
SERVE_PACKAGES := .venv/.haulier-serve
TEST_PACKAGES := .venv/.haulier-test

# Bytecode is compiled once. Where it may not be kept every start of the service compiles everything anew, for seconds.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

# What mypy reads; benchmarks and tools are held to the same types as the source.
TYPED := src tests $(wildcard benchmarks) $(wildcard tools/*.py)

BENCHES := $(addprefix bench-p,1 2 3 4 5 6 7 8 9 10 11 12)

# Options for `haulier serve`, pytest and the simulation: make serve ARGS="--port 9000".
ARGS ?=
SEEDS ?= 1000
LONG ?=

.PHONY: help serve test check fix bench docs simulate spray sbom packages programs check-sources check-types check-page bench-takeover bench-acceptance $(BENCHES)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile
	@$(foreach b,$(BENCHES),printf '  %-16s %s\n' $(b) 'Measure $(b:bench-p%=P%) alone';) :

serve: $(SERVE_PACKAGES) ## Run the service on http://127.0.0.1:8000 (ARGS="--port 9000")
	@tools/page build
	@exec $(BIN)/haulier serve $(ARGS)

test: packages ## Run every suite and the coverage gate (ARGS="-k word")
	@tools/run-tests $(ARGS)

check: check-sources check-types check-page ## Check format, lint, types, layers, lock, licences, vulnerabilities, documents

# Independent of each other, so that `make -j2` does two at a time.
check-sources: $(TEST_PACKAGES)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	tools/check-lock
	$(BIN)/python tools/check_licences.py
	$(BIN)/python tools/audit.py
	$(BIN)/python -m tools.check_docs

check-types: $(TEST_PACKAGES)
	$(BIN)/mypy $(TYPED)

check-page:
	tools/page check

fix: $(TEST_PACKAGES) ## Format, and repair what ruff can repair by itself
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	tools/page fix

bench: packages ## Run every benchmark against its peers, one table each
	@$(BIN)/python -m benchmarks

$(BENCHES): bench-p%: packages
	@$(BIN)/python -m benchmarks.p$* $(ARGS)

bench-takeover: packages ## Measure what a connection that died silently costs the next request
	@$(BIN)/python -m benchmarks.takeover $(ARGS)

bench-acceptance: packages ## Measure what accepting a chunk costs on SQLite and on PostgreSQL
	@$(BIN)/python -m benchmarks.acceptance $(ARGS)

docs: $(TEST_PACKAGES) ## Check the documents: links, pages of problems, generated parts
	$(BIN)/python -m tools.check_docs

simulate: $(TEST_PACKAGES) ## Run the engine under SEEDS=1000 seeded schedules with faults (LONG=1: and real processes for an hour)
	@$(BIN)/pytest tests/simulation --seeds $(SEEDS) -n auto $(ARGS)
	@$(if $(LONG),$(BIN)/pytest tests/e2e -m long --long -o faulthandler_timeout=7200 $(ARGS))

spray: SEEDS = 10
spray: packages ## Spray 500 uploads over three killed services and three killed workers, SEEDS=10 times
	@$(BIN)/pytest tests/e2e/test_spray.py -m long --long --sprays $(SEEDS) -o faulthandler_timeout=3600 $(ARGS)

sbom: $(TEST_PACKAGES) ## Write dist/haulier.cdx.json, the bill of materials of a release
	@tools/make-sbom dist/haulier.cdx.json

# Not in the help: what tests and benchmarks need. `programs` are the packages from Debian and npm, without the page.
packages: programs
	@tools/page build

programs: $(TEST_PACKAGES)
	@tools/install-test-packages

$(SERVE_PACKAGES): $(FRAME)
	@tools/bootstrap --no-default-groups --extra server --extra postgres --extra images
	@touch $@

# The test packages include the server's, so `make serve` has nothing left to do afterwards.
$(TEST_PACKAGES): $(FRAME)
	@tools/bootstrap --all-extras
	@touch $(SERVE_PACKAGES) $@
