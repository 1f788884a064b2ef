# Two commands do all set-up: `make demo` runs the main job, `make test` passes the tests.
.PHONY: demo test check lock clean
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE := build/node
CLOUD_INIT := build/cloud-init
# Bytecode makes the second start of the command line fast; some machines switch it off.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make demo   run three workers on a sample repository, without keys"
	@echo "make test   run the tests"
	@echo "make check  run linters, type checks and import contracts"
	@echo "make lock   write constraints.txt anew"
	@echo "make clean  remove the virtual environment and everything built"

demo: $(VENV)/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh

test: $(VENV)/ready $(if $(OUTPOST_REQUIRE_ALL),$(NODE)/ready $(CLOUD_INIT)/ready)
	$(if $(OUTPOST_REQUIRE_ALL),.ci/tools git-lfs faketime initdb:postgresql zsh fish tcsh \
	  ssh-keygen:openssh-client sshd:openssh-server ip:iproute2)
	$(BIN)/pytest -n 2 --dist loadfile

check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/ready: constraints.txt pyproject.toml .ci/tools
	.ci/tools git tmux
	.ci/tools --venv "$(PYTHON)" "$(VENV)"
	$(BIN)/pip install --quiet --require-hashes -r constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The agent programs that the tests drive; exact versions stand in tests/package.json.
$(NODE)/ready: tests/package.json
	.ci/tools npm
	mkdir -p $(NODE)
	cp tests/package.json $(NODE)/
	npm install --prefix $(NODE) --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

# Debian's cloud-init, for its schema: unpacked and not installed, as it would act at the next start.
$(CLOUD_INIT)/ready:
	mkdir -p $(CLOUD_INIT)
	apt-get update -qq
	cd $(CLOUD_INIT) && apt-get download -qq cloud-init && dpkg-deb -x cloud-init_*.deb .
	@touch $@

lock: $(VENV)/ready
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --extra builtin --extra acp --extra postgres --extra ssh \
	  --universal --generate-hashes --upgrade --python-version 3.11 --no-header --no-annotate --no-emit-index-url -o constraints.txt

clean:
	rm -rf $(VENV) build
