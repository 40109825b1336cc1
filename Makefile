# Everything a person or a machine does with this project. `make help` lists it.
PYTHON ?= python3
PY := .venv/bin/python
.DEFAULT_GOAL := help
# What `manage.py check --deploy` is asked about: an installation that is reached over https.
DEPLOYED := PUBLIC_URL=https://gateway.example.com TRUSTED_PROXIES=127.0.0.1/32

# Checks and tests have a DATA_DIR of their own: they leave the installation in ./data alone.
lint test test-native: export DATA_DIR := $(CURDIR)/.venv/data-of-checks

.PHONY: help run demo test check lint native pure test-native bench pictures requirements

help:  ## list what there is to make
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-14s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.installed  ## install what is missing, migrate, start everything on http://127.0.0.1:8000
	@exec $(PY) manage.py start

demo: export DATA_DIR ?= $(CURDIR)/data-demo
demo: .venv/.installed  ## the same on an installation of its own, filled with a dozen made-up clients and 90 days of usage
	@exec $(PY) manage.py start --demo

test: .venv/.installed-dev  ## run every test, against real servers
	$(PY) -m pytest -n 2 --dist loadgroup

check: lint test  ## what CI runs: lint, format, types, import rules, migrations, deployment check, tests

lint: .venv/.installed-dev  ## everything of `check` but the tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) manage.py makemigrations --check --dry-run
	$(DEPLOYED) $(PY) manage.py check --deploy --fail-level WARNING

native: pure .venv/.installed-dev  ## compile the path of a call to machine code; needs gcc and Python's headers
	@command -v gcc >/dev/null || { echo "No C compiler; on Debian: apt install gcc python3-dev" >&2; exit 1; }
	@echo "Compiling the path of a call ..."
	@$(PY) setup.py --quiet build_ext --inplace

pure:  ## remove what 'make native' made; the same source runs without it
	@find . -path ./.venv -prune -o -name '*.so' -exec rm {} +
	@rm -rf build

# What was compiled checks types as it runs, so the same tests must pass on it; what it does not touch is not run again.
test-native: native  ## the tests of the path of a call, on machine code
	$(PY) -m pytest -n 2 --dist loadgroup tests/proxy tests/usage tests/e2e tests/faults

bench: native  ## measure what the README claims
	$(PY) -m bench

pictures: .venv/.installed-dev  ## take the pictures of the documentation anew; needs Chromium
	PYTHONPATH=. $(PY) docs/pictures.py

# For 3.11.0 on: Debian has 3.11.2, and packages differ in what they need from 3.11.3.
requirements: .venv/.installed-dev  ## compile the pinned files from requirements.in and requirements-dev.in
	$(PY) -m uv pip compile --quiet --no-header --generate-hashes --upgrade --python-version 3.11 requirements.in -o requirements.txt
	$(PY) -m uv pip compile --quiet --no-header --generate-hashes --upgrade --python-version 3.11 requirements-dev.in -o requirements-dev.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python run")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "No environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }

# Installed anew only when the list has changed.
.venv/.installed: requirements.txt | .venv/bin/python
	@echo "Installing what requirements.txt lists ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
