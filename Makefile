# Everything a person does with this checkout; `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

KIT := .venv/bin/kit
# Asked when a recipe runs: before `make setup` there is no kit.
ALL_IMAGES = $$($(KIT) image list --names)
# Runs each line that it reads as a command of kit, two at once: what one installs, unpacks or packs takes one core. One that
# fails makes it fail, once the others have ended. Two that write to one terminal write lines, and turn no wheels.
TOGETHER = xargs --no-run-if-empty --max-lines=1 --max-procs=2 $(KIT) 2>&1 | cat
# The others on demand: make submission BENCHMARKS="stemdl uno tevolop"
BENCHMARKS ?= relion cloudmask
SIZE ?= tiny
SITE ?= local
SUBMISSIONS ?= submissions

.PHONY: help setup recipes images images/all submission test test/unit test/schedulers test/slurm test/gridengine test/browser test/engine lint docs site bench bench/submissions bench/relion bench/cloudmask bench/science bench/levers bench/repeats clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z\/%-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.done: pyproject.toml
	@echo "Setting up .venv (about 1 minute)"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 is older than 3.11"; exit 1; }
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { \
	    [ "$$(id -u)" = 0 ] || { echo "python3-venv is missing: sudo apt-get install python3-venv"; exit 1; }; \
	    apt-get update -qq; apt-get install -y -qq --no-install-recommends python3-venv git >/dev/null; }
	@python3 -m venv .venv
	@.venv/bin/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: .venv/.done ## the virtual environment, and with root the Docker engine and Apptainer where they are missing
	@$(KIT) doctor --fix || echo "Going on with what is there."

recipes: .venv/.done ## write containers/*/Dockerfile and recipes/*.def from kit/images
	@$(KIT) image recipe

images: setup ## build the images that the tests need, as Docker images and SIFs (about 20 minutes from nothing on 2 cores)
	@# The last first: relion-basic takes most of its stages from relion-accelerated, once that has built them.
	@$(KIT) image list --names --tested | tac | sed 's/^/image build /' | $(TOGETHER)

images/all: setup ## build every image (the CUDA ones: about another hour, 20 GB of disk)
	@$(KIT) image build $(ALL_IMAGES)

image/%: setup ## build one image: make image/relion-cuda; kit image list names them
	@$(KIT) image build $*

submission: setup ## run BENCHMARKS="relion cloudmask" at SIZE=tiny on SITE=local and leave checked folders below submissions/
	@[ -n '$(strip $(BENCHMARKS))' ] || { echo 'BENCHMARKS is empty; name one at least: BENCHMARKS="relion cloudmask"' >&2; exit 1; }
	@for benchmark in $(BENCHMARKS); do \
	    read -r image < <($(KIT) image list --names --for $$benchmark); \
	    echo "image build $$image"; \
	done | sort --unique | cat - <(printf 'data make %s --size $(SIZE)\n' $(BENCHMARKS)) | $(TOGETHER)
	@folders=(); runs=(); \
	for benchmark in $(BENCHMARKS); do \
	    echo "== $$benchmark, size $(SIZE), site $(SITE) (about 6 minutes at size tiny)"; \
	    run=$$($(KIT) run $$benchmark --size $(SIZE) --site $(SITE) --wait); \
	    $(KIT) collect $$run; \
	    folder=$$($(KIT) submission pack $$run --to $(SUBMISSIONS) --organisation trial --allow-trial); \
	    $(KIT) submission check $$folder --allow-trial; \
	    folders+=("$$folder"); runs+=("$$run"); \
	done; \
	printf '\nAccepted as trials, each with a README.md that says what it holds:\n'; \
	printf '  %s\n' "$${folders[@]}"; \
	printf '\nReady for a pull request once packed under the names of your organisation and system, which this asks for:\n'; \
	printf '  $(KIT) submission pack %s\n' "$${runs[@]}"

# Images are downloaded and compiled while unit tests run. The tests of schedulers wait most of the time, and those of engines
# compute meanwhile. What starts Slurm also makes the user as whom containers are tried.
test: .venv/.done ## all tests, on real engines; installs what they need
	@tests/signers.sh
	@$(MAKE) --no-print-directory --jobs 2 test/unit images
	@tests/slurm/start.sh
	@tests/gridengine/start.sh
	@$(MAKE) --no-print-directory test/browser
	@$(MAKE) --no-print-directory --jobs 2 test/schedulers test/engine

test/unit: .venv/.done ## the tests that need neither an image nor an engine (8 minutes on 2 cores)
	@.venv/bin/pytest tests/unit --numprocesses auto --maxprocesses 8 --dist worksteal

test/schedulers: images ## the tests on a real Slurm, and then on a real Grid Engine
	@$(MAKE) --no-print-directory test/slurm
	@$(MAKE) --no-print-directory test/gridengine

test/slurm: images ## the tests on a real Slurm of four nodes, which is installed and started (8 minutes)
	@tests/slurm/start.sh
	@.venv/bin/pytest tests/slurm

test/gridengine: images ## the tests on a real Grid Engine, which is installed and started (4 minutes)
	@tests/gridengine/start.sh
	@.venv/bin/pytest tests/gridengine

test/browser: .venv/.done ## the tests of pages in a real headless Chromium, which is installed (1 minute)
	@tests/browser/start.sh
	@.venv/bin/pytest tests/browser

test/engine: images ## the tests on real images and engines (40 minutes on 2 cores)
	@kit/images/host/docker.sh
	@.venv/bin/pytest tests/engine --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.done ## ruff, mypy, shellcheck, hadolint
	@.venv/bin/ruff check kit tests bench
	@.venv/bin/ruff format --check kit tests bench
	@.venv/bin/mypy kit
	@.venv/bin/shellcheck -e SC2016 $$(find kit -name '*.sh' -not -path 'kit/benchmarks/*' -not -path 'kit/tune/*') tests/*.sh tests/*/*.sh .ci/run
	@# Functions of stages, which know the variables of a job.
	@.venv/bin/shellcheck -s bash -e SC1083,SC2016,SC2154 kit/benchmarks/*/*.sh kit/tune/*.sh
	@.venv/bin/hadolint containers/*/Dockerfile

docs: .venv/.done ## build the documentation as a website in build/docs; a broken link or anchor is an error
	@rm -rf build/pages
	@mkdir -p build/pages
	@cp -r README.md CONTRIBUTING.md CHANGELOG.md SECURITY.md docs build/pages/
	@.venv/bin/mkdocs build --strict

site: .venv/.done ## a leaderboard of SUBMISSIONS=submissions as a website in build/site
	@mkdir -p $(SUBMISSIONS)
	@$(KIT) report --leaderboard $(SUBMISSIONS) --to build/site

bench: images ## measure the speed and size the kit promises (build/bench/kit.json)
	@.venv/bin/python bench/promises.py

bench/submissions: .venv/.done ## what checking, verifying and publishing costs, on a submission below SUBMISSIONS=submissions (build/bench/submissions.json)
	@SUBMISSIONS=$(SUBMISSIONS) .venv/bin/python bench/submissions.py

bench/relion: images ## relion-basic against relion-accelerated (build/bench/relion.json; hours: PARTICLES=300 BOXES=128 is quick)
	@.venv/bin/python bench/relion.py

bench/cloudmask: images ## CloudMask against the ancestor's scheme (build/bench/cloudmask.json); PEERS=1: against PyTorch, JAX and others (peers.json)
	@.venv/bin/python bench/$(if $(PEERS),peers,cloudmask).py

bench/science: images ## STEMDL, CANDLE-UNO and TEvolOp against their references' schemes (build/bench/science.json)
	@.venv/bin/python bench/science.py

bench/levers: images ## measure compiler, flags, instruction set and memory in relion-accelerated (build/bench/levers.json)
	@.venv/bin/python bench/levers.py

bench/repeats: images ## measure the spread between runs that differ only in their seed; writes kit/benchmarks/relion/repeats.json
	@.venv/bin/python bench/repeats.py

clean: ## remove what was built in this checkout (not images, data and runs)
	@rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache
