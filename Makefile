# Two commands from zero: `make demo` and `make test`. Everything else is `cargo xtask`.
.DEFAULT_GOAL := help
.PHONY: help install demo up down core check lint test test-all bench

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Install what is missing, or print the command that does
	@./scripts/install

demo: install ## A real cluster, three devices, one fleet: from nothing to a tour of it
	@./scripts/demo

up: install ## Start a working system and leave it running
	@cargo xtask up

down: ## Stop and remove all of it
	@cargo xtask down

core: ## Tests of the pure crates and the simulation
	@cargo xtask ci core

check: ## Formatting, dependency arrows, clippy
	@cargo xtask ci check

lint: check ## The same as check

test: install ## What CI runs
	@cargo xtask ci test

test-all: install ## Everything
	@cargo xtask ci all
