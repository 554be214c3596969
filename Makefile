# Every target sets up all it needs from a fresh clone; stamp files make the second run quick.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE := .cache
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo check test bench soak chaos image format lock needs sdks deploy-tools clean

help:
	@echo "make demo     run a batch job on a real llama.cpp engine, through Mistral's SDK"
	@echo "make check    format, lint, types, layers, unit and meta tests (under a minute)"
	@echo "make test     everything CI runs (may use Node, npm and apt)"
	@echo "make bench    measure speed and memory against nginx and wrk (BENCH=--quick for a taste)"
	@echo "make soak     half an hour of jobs and faults: does anything grow? (SOAK='--minutes 5')"
	@echo "make chaos    kill, freeze and cut off a fleet at work, and judge what is left (CHAOS='--seed 2')"
	@echo "make image    build the container image (needs Docker)"
	@echo "make format   let ruff format and fix what it can"
	@echo "make lock     resolve the lock files in requirements/ anew"
	@echo "make clean    remove the virtual environment and caches"

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

check: $(VENV)/.check
	@$(BIN)/python -m pytest tests/unit tests/meta -q

test: $(VENV)/.test needs sdks deploy-tools
	@$(BIN)/python -m pytest -n 4 -q

bench: $(VENV)/.test
	@sh tools/test-needs.sh nginx wrk cc
	@$(BIN)/python -m bench.environments
	@$(BIN)/python -m bench $(BENCH)

soak: $(VENV)/.test
	@$(BIN)/python -m bench.soak $(SOAK)

chaos: $(VENV)/.test
	@$(BIN)/python -m tests.chaos $(CHAOS)

image:
	docker build -f deploy/Dockerfile -t batchmill .

format: $(VENV)/.check
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Batchmill needs $(PYTHON); or name another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Batchmill needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Could not make a virtual environment; on Debian: apt install python3-venv"; exit 1; }

# The locked packages of one purpose, then Batchmill itself without its dependencies.
$(VENV)/.%: requirements/%.txt pyproject.toml | $(BIN)/python
	@echo "Installing requirements/$*.txt into $(VENV)"
	@$(PIP) install --quiet --require-hashes -r requirements/$*.txt
	@$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

needs:
	@sh tools/test-needs.sh strace node npm tmux

# Other releases of the vendors' SDKs, each in an environment of its own.
sdks: $(VENV)/.test
	@$(BIN)/python tools/wire_environments.py

# Helm, a linter of Dockerfiles, and the schemas that deploy/ is checked against.
deploy-tools: $(VENV)/.test
	@$(BIN)/python tools/deploy_tools.py

# The full set decides every version; the smaller ones and the other SDKs follow it.
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --python-version 3.11
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH"; exit 1; }
	$(COMPILE) pyproject.toml --all-extras --group build --group demo --group check --group test \
	  -o requirements/test.txt
	$(COMPILE) pyproject.toml --extra local --group build --group demo \
	  -c requirements/test.txt -o requirements/demo.txt
	$(COMPILE) pyproject.toml --group build --group check -c requirements/test.txt -o requirements/check.txt
	$(COMPILE) pyproject.toml --extra all -c requirements/test.txt -o requirements/image.txt
	$(COMPILE) --group build -c requirements/test.txt -o requirements/build.txt
	$(COMPILE) --no-deps requirements/deploy.in -o requirements/deploy.txt
	for sdk in requirements/wire/*.in; do $(COMPILE) $$sdk -o $${sdk%.in}.txt || exit 1; done

clean:
	rm -rf $(VENV) $(CACHE) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
