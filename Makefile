# Needs Python 3.11, 3.12 or 3.13 and make; every target sets up what it uses in $(VENV).
#
#   make test PYTHON=python3.12      choose the interpreter (on a new environment)
#   make test USE_UV=1               set up with uv instead of venv and pip
#   make test PYTEST_ARGS="-n 0 -k buckets"
#   make reproduce SCALE=paper       smoke, laptop or paper
#   make reproduce ARGS="--jobs 1"
#
# Kept to what GNU make 3.81 knows, which macOS still ships.

SHELL := /bin/sh
VENV ?= .venv
SCALE ?= laptop
PYTEST_ARGS ?=
ARGS ?=

CANDIDATES = $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python)
ifeq ($(USE_UV),1)
INSTALL = uv pip install --quiet --python $(VENV)/bin/python
else
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help reproduce reproduce-all figures docs test test-all lint constraints-guard lock bench clean

help:
	@echo "make reproduce   the main figures: run what is missing, draw, check    (SCALE=$(SCALE))"
	@echo "make reproduce-all   the appendices and our own experiments as well    (SCALE=$(SCALE))"
	@echo "make figures     redraw every figure from the data in figures/data, running nothing"
	@echo "make docs        the documentation as a site, in build/site"
	@echo "make test        the default test suite                               (PYTEST_ARGS=)"
	@echo "make test-all    the same with the slow tests"
	@echo "make lint        ruff, pyright, and no address in constraints.txt"
	@echo "make lock        renew constraints.txt with the newest allowed versions"
	@echo "make bench       measure speed against PyTorch (installs torch, which is large)"
	@echo "make clean       remove $(VENV), caches and builds; results/ and figures/ stay"

reproduce: $(VENV)/.installed
	$(VENV)/bin/imbalance reproduce --scale $(SCALE) $(ARGS)

reproduce-all: $(VENV)/.installed
	$(VENV)/bin/imbalance reproduce --all --scale $(SCALE) $(ARGS)

figures: $(VENV)/.installed
	$(VENV)/bin/imbalance figures

docs: $(VENV)/.installed-docs
	$(VENV)/bin/python docs/site/build.py

# Two processes: most of the time is compiling, which is the work of one core.
test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2 $(PYTEST_ARGS)

test-all: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2 -m "" $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev constraints-guard
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

# Where a package comes from is the choice of who installs: constraints.txt says names and versions.
constraints-guard:
	@if grep -nE 'https?:|file:|@ ' constraints.txt; then \
	    echo "constraints.txt holds an address (above): run 'make lock' in a plain environment" >&2; \
	    exit 1; \
	fi

# torch and the accelerators stay out: their builds differ from machine to machine.
lock: $(VENV)/.created
	$(VENV)/bin/python -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	env -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	    -u UV_CONFIG_FILE -u UV_CONSTRAINT -u UV_OVERRIDE -u UV_EXCLUDE_NEWER -u UV_NO_INDEX \
	    -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL -u PIP_FIND_LINKS UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never \
	    $(VENV)-lock/bin/uv pip compile pyproject.toml --quiet --upgrade --universal \
	    --python $(VENV)/bin/python --python-version 3.11 \
	    --extra test --extra lint --extra images --extra docs \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    --output-file constraints.txt
	rm -rf $(VENV)-lock
	@$(MAKE) --no-print-directory constraints-guard

bench: $(VENV)/.installed-bench
	$(VENV)/bin/python benchmarks/speed_linear.py

clean:
	rm -rf $(VENV) $(VENV)-lock build dist imbalance.egg-info .pytest_cache .ruff_cache .hypothesis
	find imbalance experiments tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# The environment: made once, then installed into whenever pyproject.toml or constraints.txt changes.
# One that someone made by hand is used as it is; half of one, left by an interruption, is replaced.
FITS = 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'
$(VENV)/.created:
	@if "$(VENV)/bin/python" -c $(FITS) >/dev/null 2>&1; then \
	    echo "Using the environment $(VENV) that is there"; \
	    touch $@; \
	    exit 0; \
	fi; \
	rm -rf "$(VENV)"; \
	if [ "$(USE_UV)" = 1 ]; then \
	    command -v uv >/dev/null 2>&1 || { \
	        echo "USE_UV=1 needs uv on the PATH; leave USE_UV out to set up with pip" >&2; exit 1; }; \
	    echo "Setting up $(VENV) with uv"; \
	    uv venv --quiet --seed --python "$(if $(PYTHON),$(PYTHON),>=3.11,<3.14)" "$(VENV)" || exit 1; \
	else \
	    chosen=; tried=; \
	    for python in $(CANDIDATES); do \
	        found=`"$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null` \
	            || found="not found"; \
	        tried="$$tried  $$python: $$found;"; \
	        case "$$found" in 3.11|3.12|3.13) chosen=$$python; break;; esac; \
	    done; \
	    if [ -z "$$chosen" ]; then \
	        echo "imbalance needs Python 3.11, 3.12 or 3.13, and found none." >&2; \
	        echo "Tried$$tried" >&2; \
	        echo "Install one, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	        exit 1; \
	    fi; \
	    echo "Setting up $(VENV) with $$chosen (a minute or two, once)"; \
	    "$$chosen" -m venv "$(VENV)" || { \
	        echo "$$chosen could not make a virtual environment; on Debian and Ubuntu its venv" >&2; \
	        echo "module is a package of its own: apt install python3-venv" >&2; exit 1; }; \
	fi
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) -e '.[lab]' -c constraints.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) -e '.[test,lint]' -c constraints.txt
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) -e '.[docs]' -c constraints.txt
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) -e '.[bench]' -c constraints.txt
	@touch $@ $(VENV)/.installed
