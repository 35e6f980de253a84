# The commands of this repository. `make demo` from a fresh clone needs Python 3.11 or newer and a network.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is new enough, unless PYTHON=... names one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# onnxruntime for the machine at hand; EXTRA=cpu or EXTRA=gpu overrules.
EXTRA ?= $(if $(wildcard /proc/driver/nvidia/version)$(shell command -v nvidia-smi),gpu,cpu)
STAMP := $(VENV)/.installed-$(EXTRA)
PORTRAIT := $(firstword $(wildcard samples/portrait.jpg samples/portrait.png))

# Many unit tests wait for a server or a clock: four at once are done sooner than two, on two cores as well.
WORKERS := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? 4 : n)))

export RAY_USAGE_STATS_ENABLED ?= 0
# A service is a dozen processes that import the same modules. Where Python may not keep what it has compiled, as in
# many containers, each compiles them anew at each start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo serve test test-faults lint format bench quality clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## make .venv with everything in it (only when pyproject.toml changed)

$(STAMP): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer was not found; name one with PYTHON=/path/to/python3." >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"PYTHON={sys.executable} is {v}; 3.11 or newer is needed.")'
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing into $(VENV) (extra: $(EXTRA)); the first time takes some minutes. A dot is a package."
	@# pip would compile 22,000 files (43 s), of which a service imports 3,000: they are compiled where they are first
	@# imported, but for Ray, which many processes import at once. A file of Ray's that cannot be compiled is no error.
	@$(BIN)/python -m pip install --no-input --disable-pip-version-check --no-compile -e '.[$(EXTRA),dev]' \
		| awk '/^Collecting/ {printf "."; fflush()} /^Installing collected/ {printf " unpacking"; fflush()} END {print ""}'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib/*/site-packages/ray || true
	@touch $@

demo: setup  ## samples/portrait + samples/speech.wav -> out/demo.mp4
	@mkdir -p out
	@$(BIN)/lipwright speak --video $(PORTRAIT) --audio samples/speech.wav --out out/demo.mp4
	@echo "The video: $(CURDIR)/out/demo.mp4"

serve: setup  ## the API, until Ctrl-C
	@$(BIN)/lipwright serve

test: setup  ## the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/unit || { status=$$?; }; \
	$(BIN)/python -m pytest --durations=25 tests/graph tests/cluster tests/faults || status=$$?; exit $${status:-0}

test-faults: setup  ## kill, flood and endure at full length (more than an hour on two cores)
	@LIPWRIGHT_ENDURANCE=1 $(BIN)/python -m pytest -s tests/faults tests/cluster \
		tests/unit/cluster/test_capacity.py tests/graph/test_engines.py

lint: setup  ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup  ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup  ## the figures of the README, into benchmarks/results.json
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.render
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.engines

# The judge and the clips lie outside this repository; clips of one folder below CLIPS are put together, and UNSEEN names
# those of talkers that no network was trained on.
JUDGE ?= ../shared/eval
CLIPS ?= ../shared/clips
UNSEEN ?= grid_talker1 grid_talker5

quality: setup  ## how believable the faces are, into benchmarks/quality.json (JUDGE=, CLIPS=, UNSEEN=)
	@$(BIN)/python -m benchmarks.quality --judge $(JUDGE) --clips $(CLIPS) $(addprefix --unseen ,$(UNSEEN))

clean:  ## remove the environment, caches and results (not data/)
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
