# Two commands for a newcomer: make demo, make test. Everything else is listed by make help.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DATA ?=
PORT ?= 8000
BINARIES ?=

.PHONY: help demo smoke test test-redis lint format skew skew-live quality loadtest bench bench-quick bench-peers-install bench-peers bench-gpu bench-features chaos-features chaos-control clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/demo ## data -> training -> export -> features -> service on 127.0.0.1:8000 (DATA=path/to/ml-1m for real data)
	@$(PY) -m demo --port $(PORT) $(if $(DATA),--data $(DATA))

smoke: $(VENV)/demo ## the same line, checked, then stopped
	@$(PY) -m demo --smoke $(if $(DATA),--data $(DATA))

test: $(VENV)/dev ## all tests
	$(PY) -m pytest -q

test-redis: $(VENV)/dev ## the store's tests on other servers, too (BINARIES=/path/redis-server:/path/other/redis-server)
	$(if $(BINARIES),,$(error BINARIES names the servers: make test-redis BINARIES=/path/redis-server:...))
	RANKLINE_TEST_REDIS_BINARIES="$(BINARIES)" $(PY) -m pytest -q tests/feature_store/redis

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

skew-live: $(VENV)/demo ## 10,000 answers amid live events, the log exported and scored anew by torch (DATA=...)
	@$(PY) -m demo --skew-live $(if $(DATA),--data $(DATA))

quality: $(VENV)/demo ## train DeepFM, mean pooling and DIN over three seeds and print the table (DATA=...)
	@$(PY) -m demo --quality $(if $(DATA),--data $(DATA))

loadtest: $(VENV)/dev ## open-loop load on the demo's service, report under var/loadtest (DATA=...)
	@$(PY) -m demo --loadtest $(if $(DATA),--data $(DATA))

bench: $(VENV)/dev ## candidates/s, latency, overload on one core beside bare ONNX Runtime (a quarter of an hour, a quiet machine), docs/results/speed
	$(PY) -m loadtest.bench

bench-quick: $(VENV)/dev ## the same with short runs, into var/bench-quick: to see that it works
	$(PY) -m loadtest.bench --quick --out var/bench-quick

bench-peers-install: $(VENV)/dev ## other servers, each in an environment of its own below var/peers
	$(PY) -m loadtest.peers install

bench-peers: $(VENV)/dev ## the same model and features behind them, added to the results of make bench
	$(PY) -m loadtest.bench peers --keep

bench-gpu: $(VENV)/dev ## one GPU, bare and behind front-ends with the binary body (needs onnxruntime-gpu), docs/results/speed/gpu.json
	$(PY) -m loadtest.bench.gpu_run

bench-features: $(VENV)/dev ## the feature store's reads and writes, results under docs/results/fresh-features (1-2 minutes, a quiet machine)
	$(PY) -m feature_store bench

CHAOS := $(PY) -m loadtest chaos
CHAOS_OUT ?= docs/results/fresh-features
CHAOS_SEED ?= 1

chaos-features: $(VENV)/dev chaos-control ## the long chaos runs (about half an hour, after make demo), results under docs/results/fresh-features
	$(CHAOS) wrong-user --answers 1000000 --seed $(CHAOS_SEED) --out $(CHAOS_OUT)
	$(CHAOS) frozen-store --times 10 --freeze-s 30 --seed $(CHAOS_SEED) --out $(CHAOS_OUT)
	$(CHAOS) lost-events --events 105000 --service-kills 50 --store-kills 20 --seed $(CHAOS_SEED) --out $(CHAOS_OUT)
	$(CHAOS) lost-events --appendonly yes --events 105000 --service-kills 50 --store-kills 20 --seed $(CHAOS_SEED) --out $(CHAOS_OUT)
	$(CHAOS) event-order --users 10000 --seed $(CHAOS_SEED) --out $(CHAOS_OUT)
	$(CHAOS) one-user --events 1000000 --seed $(CHAOS_SEED) --out $(CHAOS_OUT)

chaos-control: $(VENV)/dev ## the positive control: the same harness must go red on redis-py 4.5.3
	$(PYTHON) -m venv var/control-venv
	var/control-venv/bin/pip install --quiet redis==4.5.3
	$(CHAOS) wrong-user-control --answers 20000 --seed $(CHAOS_SEED) --out $(CHAOS_OUT)

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
