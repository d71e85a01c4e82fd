# Everything runs in a virtual environment, which is created on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo docs test test-all test-network test-gpu test-browser test-containers test-slurm check format clean

demo: $(READY)
	$(BIN)/heareval demo

# One process per core. The tests of a file run in the same process, because they share fixtures.
TOGETHER := -n auto --dist loadfile --no-loadscope-reorder

INSTALL_DOCS := $(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[dev,docs]'

test: $(READY)
	$(BIN)/python -m pytest $(TOGETHER)

test-all: $(READY)
	$(INSTALL_DOCS)
	$(BIN)/python -m pytest -m "not network and not containers and not slurm" $(TOGETHER)

test-network: $(READY)
	$(BIN)/python -m pytest -m network $(TOGETHER)

# Needs a GPU that PyTorch can use; without one the tests are skipped.
test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu

# Needs Chromium and chromedriver on the PATH: apt install chromium chromium-driver.
test-browser: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[dev,browser]'
	$(BIN)/python -m pytest -m browser tests/browser

# Starts a Slurm of two nodes on this machine. Needs root and: apt install slurm-wlm munge.
test-slurm: $(READY)
	$(BIN)/python -m pytest -m slurm tests/slurm

# Needs Docker, or as root: apt install docker.io docker-compose mmdebstrap.
test-containers: $(READY)
	$(BIN)/python -m pytest -m containers tests/containers

# The site, which can be read without a network. Warnings are errors, such as a broken link or anchor.
docs: $(READY)
	@$(BIN)/python -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "heareval: got Python 3.10, expected 3.11 or later for the site. Choose one with `make VENV=.venv-docs PYTHON=python3.12 docs`.")'
	$(INSTALL_DOCS)
	$(BIN)/python -m sphinx -E -a -W --keep-going -q -c docs . build/site
	@echo build/site/index.html

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 14) else "heareval: got Python %d.%d, expected 3.10 to 3.13. Choose one with `make PYTHON=python3.12 ...`." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
