# `make demo` and `make test` do all the set-up; the rest is for people who work on Croupier.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

# Whatever the environment says: many processes are started, each of which would otherwise compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo up test test-slow chaos bench check format program ceremony lock clean

demo: .venv/embedded  ## settle real bets end to end on this machine; ARGS="--bets N --players N --seed N --json FILE"
	$(BIN)/python starter.py demo $(ARGS)

up: .venv/embedded  ## keep the embedded stack running in the foreground
	$(BIN)/python starter.py up

test: .venv/development  ## all tests but the slow ones; ARGS="tests/domain -k netting"
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

test-slow: .venv/development ceremony/node_modules/.installed  ## the rehearsal of a ceremony, every attack proven on every shape, a chaos run with a defect
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder -m slow $(ARGS)

chaos: .venv/embedded  ## kill and break everything while bets are placed, then judge; ARGS="--json FILE --seed N --kills N --bets N --minutes N"
	$(BIN)/python -m chaos $(ARGS)

bench: .venv/development  ## how fast and at what cost, in some 35 minutes on an idle machine; ARGS="--json FILE --only PART --quick"
	$(BIN)/python -m bench $(ARGS)

check: .venv/development  ## format, lint, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: .venv/development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

program: .venv/development  ## rebuild program/settlement.so from C; the same bytes on every machine
	$(BIN)/python -m program.build

ceremony: .venv/development ceremony/node_modules/.installed  ## rehearse the ceremony for the smallest shape under var/ceremony, and import its key there
	$(BIN)/python -m ceremony rehearse 16x8 var/ceremony

lock: .venv/development  ## compile the lock files anew from pyproject.toml
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  pyproject.toml --extra embedded -o requirements.lock
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  pyproject.toml --extra embedded --extra dev -c requirements.lock -o requirements-dev.lock

clean:  ## forget the embedded stack's state: journal, ledger, keys
	rm -rf var

.venv/embedded: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Croupier needs Python 3.11 or newer: set PYTHON=…")'
	$(PYTHON) -m venv .venv
	@echo "installing into .venv (pinned, with hashes)…"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

.venv/development: requirements-dev.lock .venv/embedded
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

ceremony/node_modules/.installed: ceremony/package-lock.json .venv/development
	$(BIN)/python -m ceremony install
	touch $@
