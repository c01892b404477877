# Every target installs what it needs first (.ci/setup): nothing happens where it is there already.
.PHONY: help setup demo up down status test test-all lint
.DEFAULT_GOAL := help

BIN := .venv/bin

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## install what is missing (apt, uv, locked Python packages)
	@.ci/setup

demo: setup  ## three regions, real chains, shortened by Airflow before your eyes
	@$(BIN)/chainwright demo

up: setup  ## start the embedded fleet and Airflow
	@$(BIN)/chainwright up

down: setup  ## stop all that `up` started; data stays
	@$(BIN)/chainwright down

status: setup  ## what runs, and where
	@$(BIN)/chainwright status

test:  ## every test but the slow suites
	@.ci/setup tests
	@$(BIN)/python -m pytest -m "not slow"

test-all:  ## every test, hostile and scale suites included
	@.ci/setup tests
	@$(BIN)/python -m pytest

lint: setup  ## style, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
