# Developer commands. Needs git, a C compiler, make, and Python 3.11+ with its venv and dev packages
# (Debian: apt install git gcc make python3-dev python3-venv). Everything goes into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
APP ?= examples.hello:app
SERVE_ARGS ?=
PYTEST_ARGS ?=
# What reads request heads, or shows them to an app; and direct answers, which have no offers without the extension.
PURE_TESTS := $(addprefix tests/protocol/test_,$(addsuffix .py,bounds corpus environ express names native origin request scope)) \
  tests/protocol/http2 tests/protocol/websocket tests/fuzz tests/frontend/clients tests/reactor/asgi tests/reactor/links tests/reactor/wsgi \
  $(addprefix tests/integration/test_,$(addsuffix .py,bodies corpus direct_answers http isolation no_desync))
# What the extensions are built from.
NATIVE := $(wildcard src/reactor_run/_*.c protocol/_*.c)
# How many test files run at once: two a core, because half of the time a test waits for processes.
JOBS ?= $(shell echo $$(( $$(nproc) * 2 )))
# Each worker takes one file after another. tests/conftest.py orders them. The plugin of faker, which
# comes with litestar, would take 0.3 s of CPU time in each.
SPREAD = -n $(JOBS) --dist loadfile --no-loadscope-reorder -p no:faker
# The tests start a thousand processes. With PYTHONDONTWRITEBYTECODE each would compile all modules anew.
CACHED = env -u PYTHONDONTWRITEBYTECODE
# Where links of the site to files of the repository lead. If it is empty, they are plain text.
REPOSITORY ?=
FUZZ_SECONDS ?= 60
FUZZ_ARGS ?= -max_total_time=$(FUZZ_SECONDS)
FUZZ_TARGETS ?= heads native bodies proxy forwarded responses frames websocket http2 translation encoding
AUTOBAHN_CASES ?= *
BENCH_ARGS ?=
BENCH = $(if $(CPU),--cpu) $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(BENCH_ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve demo test test-pure test-slow test-all test-autobahn check format fuzz fuzz-native bench bench-quick bench-life bench-hello docs build wheels clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/base.stamp ## serve an example, or APP=module:app; the log shows the URL (SERVE_ARGS=...)
	$(BIN)/reactor-run $(APP) $(SERVE_ARGS)

demo: $(VENV)/demo.stamp ## serve three apps and files in one service; the log shows the URL (SERVE_ARGS=...)
	$(BIN)/reactor-run --config examples/demo/demo.toml $(SERVE_ARGS)

test: $(VENV)/test.stamp ## run the tests, without the slow ones (PYTEST_ARGS=...)
	$(CACHED) $(BIN)/python -m pytest -m "not slow" $(SPREAD) $(PYTEST_ARGS)

test-pure: $(VENV)/test.stamp ## run those tests without the extension in C that it could change
	REACTOR_RUN_PURE=1 $(CACHED) $(BIN)/python -m pytest -m "not slow" $(SPREAD) $(PYTEST_ARGS) $(PURE_TESTS)

test-slow: $(VENV)/test.stamp ## run the slow tests
	COLD_STARTS=1 $(CACHED) $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-all: ## run the tests on each installed Python of 3.11, 3.12, 3.13, in .venv-3.x
	@found=; for v in 3.11 3.12 3.13; do \
	  for python in $$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$v.*/bin/python$$v 2>/dev/null) python$$v; do \
	    "$$python" -c '' 2>/dev/null || continue; \
	    echo "== Python $$v ($$python)"; found=yes; \
	    COLD_STARTS=1 $(MAKE) --no-print-directory test VENV=.venv-$$v PYTHON="$$python" || exit 1; \
	    continue 2; \
	  done; \
	  echo "== Python $$v: not found, skipped"; \
	done; [ -n "$$found" ] || { echo "No Python 3.11, 3.12 or 3.13 found." >&2; exit 1; }

test-autobahn: $(VENV)/test.stamp ## run the Autobahn suite of WebSocket; needs Python 2.7, takes ten minutes (AUTOBAHN_CASES=1.*,2.*)
	$(BIN)/python -m tests.autobahn '$(AUTOBAHN_CASES)'

check: $(VENV)/test.stamp $(VENV)/dev.stamp ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(VENV)/fuzz.stamp ## fuzz each parser for FUZZ_SECONDS=60 (FUZZ_TARGETS=..., FUZZ_ARGS=-runs=1000000)
	@for target in $(FUZZ_TARGETS); do \
	  echo "== $$target"; $(BIN)/python -m tests.fuzz $$target $(FUZZ_ARGS) || exit 1; \
	done
	@$(MAKE) --no-print-directory fuzz-native

fuzz-native: $(VENV)/test.stamp ## compare the C code with the policy for FUZZ_SECONDS=60, with ASan and UBSan
	@echo "== the C code with sanitizers"; $(BIN)/python -m tests.fuzz.sanitized $(FUZZ_SECONDS)

bench: $(VENV)/bench.stamp ## compare with peers; takes two hours (ONLY=real,uneven PEERS=uvicorn ROUNDS=5 CPU=1)
	$(BIN)/python -m bench $(BENCH)

bench-quick: $(VENV)/bench.stamp ## one short round of the main cases, in three minutes
	$(BIN)/python -m bench --quick $(BENCH)

bench-life: $(VENV)/bench.stamp ## count lost requests when workers die, hang, are replaced or overloaded
	$(BIN)/python -m bench --only kills,hangs,reloads,stops,overload $(BENCH)

bench-hello: $(VENV)/bench.stamp ## compare the cost of a 13-byte response with every peer
	$(BIN)/python -m bench --only hello/64 $(BENCH)

docs: $(VENV)/docs.stamp ## build the documentation as a site in build/docs/site (REPOSITORY=https://.../blob/main)
	$(BIN)/python docs/site.py build/docs $(REPOSITORY)
	$(BIN)/zensical build --strict --clean --config-file build/docs/zensical.toml
	@echo "To read it: python3 -m http.server --directory build/docs/site"

build: $(VENV)/dev.stamp ## build wheel and sdist into dist/
	$(BIN)/python -m build

wheels: $(VENV)/wheels.stamp ## build a manylinux wheel for this Python into dist/
	rm -rf build
	$(PIP) wheel --quiet --no-deps --wheel-dir build/wheels .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheels/*.whl

clean: ## remove virtual environments, caches and build products
	rm -f src/reactor_run/_*.so protocol/_*.so
	rm -rf .venv .venv-3.* build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment with one stamp file for each set of extras. Packages are installed again only
# when pyproject.toml, setup.py or the C code changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "reactor-run needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "'$(PYTHON)' has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

define install
	@echo "Installing into $(VENV): $(1)"
	@$(PIP) install --quiet --editable '$(1)' || { $(explain); exit 1; }
	@touch $@
endef

# gunicorn_h1c is published as C source. These two are the usual reasons why its build fails.
explain = { command -v cc >/dev/null || echo "No C compiler; on Debian: apt install gcc" >&2; \
  $(BIN)/python -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
  || echo "No Python.h; on Debian: apt install python3-dev" >&2; }

$(VENV)/base.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.)

$(VENV)/demo.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.[demo])

$(VENV)/test.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.[test])

$(VENV)/dev.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.[dev])

$(VENV)/docs.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.[docs])

$(VENV)/fuzz.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.[fuzz])

$(VENV)/wheels.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.[wheels])

$(VENV)/bench.stamp: pyproject.toml setup.py $(NATIVE) | $(BIN)/python
	$(call install,.[bench])
	@$(BIN)/python -m bench.optional
