# Commands of this repository. In a fresh clone, `make demo` needs Python 3.11 or newer and network access.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is new enough; override with PYTHON=...
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# The onnxruntime package for this machine; override with EXTRA=cpu or EXTRA=gpu.
EXTRA ?= $(if $(wildcard /proc/driver/nvidia/version)$(shell command -v nvidia-smi),gpu,cpu)
STAMP := $(VENV)/.installed-$(EXTRA)
PORTRAIT := $(firstword $(wildcard samples/portrait.jpg samples/portrait.png))

UNIT_TESTS := tests/unit extensions
# Many unit tests wait for a server or a clock, so four workers are faster than two even on two cores.
WORKERS := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? 4 : n)))

export RAY_USAGE_STATS_ENABLED ?= 0
# A service is a dozen processes that import the same modules. If Python must not write bytecode, as in many containers,
# each of them compiles all modules at every start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup lock demo serve test coverage test-faults test-container lint format bench clean

help:  ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## create .venv (again only when pyproject.toml has changed)

$(STAMP): pyproject.toml extensions/engines_classic/pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer was not found; set PYTHON=/path/to/python3." >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"PYTHON={sys.executable} is {v}; 3.11 or newer is required.")'
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing into $(VENV) (extra: $(EXTRA)); this takes a few minutes the first time. One dot per package."
	@# pip would compile 22,000 files (43 s), of which a service imports 3,000. They are compiled on first import instead,
	@# except Ray, which many processes import at the same time. A Ray file that cannot be compiled is not an error.
	@$(BIN)/python -m pip install --no-input --disable-pip-version-check --no-compile -e '.[$(EXTRA),dev]' -e extensions/engines_classic \
		| awk '/^Collecting/ {printf "."; fflush()} /^Installing collected/ {printf " unpacking"; fflush()} END {print ""}'
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib/*/site-packages/ray || true
	@touch $@
	@echo "Lipwright is installed in $(VENV). Next: 'make demo' renders a sample; '$(BIN)/lipwright serve' runs the service."
	@echo "To call it as 'lipwright': source $(BIN)/activate"

# For Linux on x86_64 and Python 3.11, without a GPU. A test compares it with pyproject.toml.
lock:  ## write requirements.lock: the versions of cluster/constraints.txt with hashes (needs uv)
	@UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile pyproject.toml --constraint cluster/constraints.txt \
		--extra cpu --extra postgres --extra s3 --extra otel --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--generate-hashes --no-annotate --quiet --output-file requirements.lock

demo: setup  ## render samples/portrait.jpg + samples/speech.wav to out/demo.mp4
	@mkdir -p out
	@$(BIN)/lipwright speak --video $(PORTRAIT) --audio samples/speech.wav --out out/demo.mp4
	@echo "Video: $(CURDIR)/out/demo.mp4"

serve: setup  ## run the service until Ctrl-C
	@$(BIN)/lipwright serve

# The first line compiles bytecode and kernels once. Otherwise all workers, which start at the same time, compile both.
# Tests of services leave much of the machine idle, so the unit tests run beside them at the lowest priority.
test: setup  ## run the whole test suite
	@$(BIN)/python -c 'import graph, torch, models.engines.warp.painting.render_cpu'
	@units=$$(mktemp); OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(UNIT_TESTS) >$$units 2>&1 & \
	trap "kill $$! 2>/dev/null || true; rm -f $$units" EXIT; \
	$(BIN)/python -m pytest --durations=25 tests/graph tests/cluster tests/faults || status=$$?; \
	wait $$! || status=$$?; cat $$units; exit $${status:-0}

coverage: setup  ## print the statement coverage of each package by the unit tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(UNIT_TESTS) --cov | tee /dev/stderr | awk \
		'$$NF ~ /%$$/ {split($$1, path, "/"); all[path[1]] += $$2; missed[path[1]] += $$3} \
		END {for (name in all) if (all[name]) printf "%5.1f %%  %s\n", 100 - 100 * missed[name] / all[name], name}' | sort -k 3

test-faults: setup  ## run the fault tests at full length (about two hours on two cores)
	@LIPWRIGHT_ENDURANCE=1 $(BIN)/python -m pytest -s tests/faults tests/cluster \
		tests/unit/cluster/test_capacity.py tests/unit/api/live/outputs tests/graph/test_engines.py extensions/engines_classic/tests/test_graph.py tests/container

test-container: setup  ## build and run the container image (needs podman, buildah, runc, catatonit, debootstrap, root)
	@$(BIN)/python -m pytest -s tests/container

lint: setup  ## run ruff, mypy and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup  ## format the code and apply ruff's fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup  ## measure the figures of docs/performance.md
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.render

clean:  ## remove .venv, caches and results (not data/)
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
