# What people type; `make` alone lists it. The work is done in tools/.
.PHONY: help setup demo test soak test-kvm bench wheel clean
.DEFAULT_GOAL := help

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile

setup: ## Make .venv/bin/xm ready (again, after a change of the C core)
	@sh tools/setup.sh

demo: setup ## Boot Debian's kernel on this terminal; with DISK=1, all of Debian from a disk
	@sh tools/demo.sh

test: ## Run the linters, the type checker and all tests but the slow ones
	@sh tools/setup.sh dev
	@sh tools/test.sh

soak: ## Run the slow tests
	@sh tools/setup.sh dev
	@sh tools/test.sh slow

test-kvm: ## Run the processors' tests on a standard KVM in QEMU's emulation
	@sh tools/setup.sh dev
	@.venv/bin/python tools/test_kvm.py

bench: ## Measure
	@sh tools/setup.sh dev
	@.venv/bin/python -m benches

wheel: setup ## Build dist/*.whl; for other Linux machines too (manylinux) if auditwheel and patchelf are here
	@sh tools/wheel.sh

clean: ## Remove what these targets made here; fetched kernels stay in ~/.cache/xenion
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -rf src/xenion/core/_core*.so src/xenion/core/_core.c src/*.egg-info
	@find src tests benches tools -name __pycache__ -prune -exec rm -rf {} +
