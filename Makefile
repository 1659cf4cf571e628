# Everything a contributor runs. Needs Python >= 3.10 and nothing else: the first call makes .venv
# (wheels only), later calls need no network until pyproject.toml changes.
#
#   make test ARGS="-k order"         arguments for the command
#   make demo PYTHON=python3.12       the Python that .venv is made from
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cpu     PyTorch without CUDA: much smaller
PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# There while the set-up runs: it tells an install that was killed from a .venv made by hand.
BEGUN := $(VENV)/.installing
PIP_INSTALL := $(BIN)/python -m pip install --quiet --only-binary=:all: --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench campaign notebook clean

help:  ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP)  ## See a stalled training run, and the same run fed
	@$(BIN)/lightning-fastdata demo $(ARGS)

test: $(STAMP)  ## Run the tests (ARGS="-m slow" for the long campaigns)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)  ## Check format, style, types and spelling
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict
	$(BIN)/typos

bench: $(STAMP)  ## Run every benchmark
	@for file in tests/benchmarks/bench_*.py; do $(BIN)/python "$$file" $(ARGS) || exit 1; done

campaign: $(STAMP)  ## Run every fault campaign in full: 40 minutes
	@$(BIN)/python tests/campaign/run.py $(ARGS)

notebook: $(STAMP)  ## Execute the notebooks and keep what they show
	@$(BIN)/jupyter execute --inplace notebooks/*.ipynb

clean:  ## Remove .venv and everything else that can be made again
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define CHECK_PYTHON
import sys
if sys.version_info < (3, 10):
    sys.exit("Found Python %d.%d, but 3.10 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("Found no module %s, which makes .venv: install it (on Debian and Ubuntu: apt install python3-venv)." % error.name)
endef
export CHECK_PYTHON

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Found no $(PYTHON): install Python 3.10 or newer, or name one with PYTHON=/path/to/python3." >&2; exit 2; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	@echo "Setting up $(VENV): some minutes and up to 6 GB, this once ..."
	@[ ! -e $(BEGUN) ] || rm -rf $(VENV)
	@mkdir -p $(VENV) && touch $(BEGUN)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@{ $(if $(TORCH_INDEX),$(PIP_INSTALL) --index-url $(TORCH_INDEX) torch torchvision &&) \
	   $(PIP_INSTALL) --editable '.[test,dev]'; } || { rm -f $(BEGUN); exit 1; }
	@mv $(BEGUN) $@
