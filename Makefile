# What `make` installs goes into .venv; a second `make` installs nothing.
PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test soak lint format browser axe system clean

help:  ## print this list
	@awk -F ':.*  ## ' '/^[a-z]+:.*  ## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

run: .venv/installed  ## open the app on port 7860, or GRADIO_SERVER_PORT
	@$(PYTHON) app.py

test: system .venv/tools browser axe lint  ## check style, then run all tests; ARGS="-k words" for some
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 $(ARGS)

soak: system .venv/tools  ## the long tests: kills by the dozen, for some minutes
	$(PYTHON) -m pytest -m soak $(ARGS)

lint: .venv/tools  ## check style only
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

format: .venv/tools  ## put the source in order
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

clean:  ## remove .venv and caches; runs and data stay
	rm -rf .venv .pytest_cache .ruff_cache build *.egg-info tests/browser/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@scripts/machine.sh prepare

browser: .venv/tools
	@scripts/machine.sh browser || $(PYTHON) -m playwright install chromium

AXE := tests/browser/node_modules/axe-core/package.json
axe: $(AXE)
$(AXE): tests/browser/package-lock.json
	@scripts/machine.sh axe && touch $@ || echo "Tests of accessibility and of exported pages are left out."

.venv/installed: requirements.txt
	@echo "Installing into .venv: the first time takes some minutes and several GB."
	python=$$(scripts/machine.sh python) && "$$python" -m venv .venv
	$(PYTHON) -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/tools: .venv/installed pyproject.toml
	$(PYTHON) -m pip install --disable-pip-version-check --quiet -e ".[dev]"
	@touch $@
