# The front door of a checkout. Git, make and a Python 3.11 to 3.14 with venv are enough; the rest is set up in .venv.
#   PYTHON=/path/to/python   another interpreter
#   ARGS="-k parser -x"      further arguments of pytest; of the demo: ARGS="--seed 7"
#   SOAK_PLANS=20 SOAK_SEED=7   how many plans `make soak` makes, and the first one's seed (200, 13)
#   UPGRADE=1                `make lock` moves to the newest versions instead of keeping those that still fit

PYTHON ?=
ARGS ?=
UPGRADE ?=

PYTHONS := 3.11 3.12 3.13 3.14
UV := 0.13.9
VENV := .venv
SERVICES := .venv/services
# pytest's exit code when ARGS chose no test of one half
NOTHING_CHOSEN := 5
SIDE_BY_SIDE = $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

.DEFAULT_GOAL := help
# Where it is set, each of the hundreds of processes of a test run would compile all of our modules again.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo demo-flask venv test soak test-all-pythons check check-real check-buffering check-browsers bench picture lock clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

demo: venv ## See it work on real parts: a naive and a careful stack under the same faults
	@$(VENV)/bin/sseproof demo $(ARGS)

demo-flask: venv ## See Flask under gunicorn's sync workers fail, and under gevent's hold (docs/flask.md; three minutes)
	@$(VENV)/bin/python docs/flask/demo.py $(ARGS)

venv: ## Set up .venv from the lock (the others do it first; nothing to do the second time)
	@.ci/venv $(VENV) "$(PYTHON)"

test: venv ## Run all tests
	@# What measures goes first and alone; the rest mostly waits, so one more than there are cores run side by side.
	$(VENV)/bin/pytest -m alone $(ARGS) || [ $$? -eq $(NOTHING_CHOSEN) ]
	$(VENV)/bin/pytest -m "not alone" -n $(SIDE_BY_SIDE) --dist worksteal $(ARGS) || [ $$? -eq $(NOTHING_CHOSEN) ]

soak: venv ## Kill 200 random plans of faults at random moments, and look for what is left
	SOAK_PLANS=$${SOAK_PLANS:-200} $(VENV)/bin/pytest tests/integration/test_soak.py -n $(SIDE_BY_SIDE) --dist worksteal $(ARGS)

test-all-pythons: venv ## Run the tests of units, client and server on every other supported Python of this machine
	@.ci/pythons $(PYTHONS)

check: venv ## Lint, formatting, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy -p sseproof

check-real: venv ## Hold `sseproof check` against real services (Starlette, Node, Go, Flask) behind a real nginx (needs npm, go)
	@bench/services/set-up $(SERVICES)
	$(VENV)/bin/python bench/check_services.py $(SERVICES) $(ARGS)

check-buffering: venv ## Calibrate how `sseproof check` tells buffering, through real hops and relays (five minutes)
	$(VENV)/bin/python bench/buffering.py $(ARGS)

CAREFUL := in variant chromium-sseconsumer
check-browsers: venv ## Claim that 100 of 100 answers are exact in a real Chromium, cut three times each, back within 1 s (five minutes)
	$(VENV)/bin/sseproof browsers --browser chromium --client sseconsumer --client eventsource --answers 100 --seed 9 \
	    --claim "success = 100% $(CAREFUL) over 100" --claim "utf8 = 100% $(CAREFUL) over 100" \
	    --claim "lost = 0 $(CAREFUL) over 100" --claim "doubled = 0 $(CAREFUL) over 100" \
	    --claim "reconnect p99 < 1s $(CAREFUL)" $(ARGS)

bench: venv ## Measure parser, generator and server against their peers, saturation, memory, streams held, judging (nine minutes)
	$(VENV)/bin/python bench/run.py --json bench-results.json

picture: venv ## Write docs/report.html and its pictures again, from the run in RUN=runs/demo/latest
	$(VENV)/bin/python docs/picture.py $(RUN)

lock: ## Write requirements.lock again from pyproject.toml, for every platform, with hashes
	@python=$$(.ci/python "$(PYTHON)") && tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	echo "sseproof: fetches uv $(UV) into a throw-away environment" && \
	"$$python" -m venv "$$tools" && \
	"$$tools/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: uv==$(UV) && \
	echo "sseproof: resolves requirements.lock" && \
	"$$tools/bin/uv" pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
	    --python-version $(firstword $(PYTHONS)) --group dev $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock

clean: ## Remove environments, caches and built files (recorded runs stay)
	rm -rf .venv .venv-3.* dist build .hypothesis .pytest_cache .mypy_cache .ruff_cache bench-results.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
