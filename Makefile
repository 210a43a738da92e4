# make run      install, start the server and the page
# make install  install alone, for the command .venv/bin/assistant
#               with MODEL=Qwen/Qwen2-Audio-7B-Instruct, both with what that model needs
# make test     install, run the tests
# make clients  install the stock clients of examples/, each by itself, for their tests
# make lint     format check, lint, types
# make bench    print every figure that the README states

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
CLIENTS := openai_agents pipecat livekit

.PHONY: run install test clients lint bench clean

run: install
	$(BIN)/assistant serve --config config.yaml $(if $(MODEL),--model '$(MODEL)') $(ARGS)

install: $(VENV)/.installed-$(if $(MODEL),gpu,words)

# Hundreds of processes start: what they import is compiled once.
test: export PYTHONDONTWRITEBYTECODE :=
# The slow tests one by one, since they hold devices, browsers and real time. 5: none is left by ARGS.
test: $(VENV)/.installed-test
	$(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile -m 'not slow' $(ARGS) || test $$? = 5
	$(BIN)/pytest -m slow $(ARGS) || test $$? = 5

clients: examples/node/node_modules/.installed $(CLIENTS:%=examples/%/.venv/.installed)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.wire
	$(BIN)/python -m benchmarks.gateway
	$(BIN)/python -m benchmarks.conversation
	$(BIN)/python -m benchmarks.turn_latency
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.hearing --picture docs/hearing.svg

# One stamp per extra: pip runs again only when pyproject.toml has changed.
$(VENV)/.installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed; name one by: make PYTHON=python3.12'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

examples/%/.venv/.installed: examples/%/requirements.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	touch $@

# Node.js comes in a wheel: the same one everywhere.
examples/node/node_modules/.installed: examples/node/package-lock.json examples/node/.venv/.installed
	cd examples/node && PATH="$$PWD/.venv/bin:$$PATH" npm ci --silent
	touch $@

clean:
	rm -rf $(VENV) examples/node/node_modules examples/*/.venv
