# Every target makes its own .venv and needs nothing but python3, make and a package index.
#   make demo     watch a simulated line being inspected (no torch, no GPU, no camera, no broker needed)
#   make test     everything that can be tested on this machine
#   make check    format, lint, types, import contracts
#   make bench    the engines on this machine, steadiness, and the same network as anomalib exports it; writes docs/bench (15 minutes)
#   make update-kills  kill the updater before every change it makes to the disk
#   make update-power-cuts  cut the power of the updater's disk 500 times (root, loop devices)
#   make update-bad-models  eight bad models, one after the other, beside a running line: each refused by itself (mosquitto)
#   make update-switch  another model, and a whole update of the shipped one, under 30 parts a second (mosquitto; a quiet machine);
#                 writes docs/update-switch.md
#   make update-mqtt  updates over nothing but a broker, cut, lied to, and a model of 20 MB with its rate (mosquitto)
#   make fleet    1000 boxes update in waves over one mosquitto, some faulty; stops where it should (mosquitto); writes docs/fleet.md
#   make fuzz     every reader of the updater on random bytes that look for its branches (atheris); writes docs/fuzz.md
#   make limits   the promises of limits and drift alarms, measured; writes docs/limits.md
#   make whatif   what the guaranteed limit of each product costs in misses, and what buys them back (after make products)
#   make dfsc-gap does the gap between teacher and auto-encoder warn of missed logical defects? (after make products; an hour)
#   make dfsc-ablation  DFSC's quantile and margin on the auto-encoder's map (after make products; an hour); writes into docs/results.md
#   make powercuts 1000 power cuts of the journal's disk (root; 10 minutes); writes docs/powercuts.md
#   make gatecheck the gate check on the reference gate and on gates with a broken rule (mosquitto); writes docs/gatecheck.md
#   make systemd  the shipped units under a real systemd in a container (root; 2 minutes); writes docs/systemd.md
#   make soak     10,000 parts at 30 a second through mosquitto while ten things break in turn (10 minutes); writes docs/soak.md
#   make gate-safety  the daemon killed and frozen 100 times each under a running line (20 minutes); writes docs/gate_safety.md
#   make long-line  eight hours of a line in half an hour: memory, files and threads stay flat; writes docs/long_line.md
#   make test-arm64  tests of `edge` in an arm64 system under emulation (root; an hour the first time); writes docs/arm64.md
#   make overhead the daemon's own time per part at 30/s, stage by stage (mosquitto; 3 minutes, a quiet machine); writes docs/overhead.md
#   make sight    what onbelt sight sees and what it refuses, on the belt's three products (5 minutes); writes docs/sight.md
#   make gige     GigE Vision frames over loopback, counted and judged (Aravis; two minutes); writes docs/gige.md
#   make training-speed  a training step beside the one anomalib takes, in one run; writes docs/training-speed.md
#   make lgfdr    what each part of LGFDR costs and is worth: every variant, three seeds (hours); SETS="scenes/tray ..." names the data
#   make products train, export and evaluate the belt's products (the shipped demo bundle is one of them)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# torch is pinned here and only here: the package asks for a range, so that users bring their own build.
TORCH ?= torch==2.13.0
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SECONDS_DEMO ?= 60
SECONDS_FUZZ ?= 60
SETS ?= products/scenes/tray

.PHONY: demo test check bench products update-kills update-power-cuts update-switch update-bad-models update-mqtt \
	fleet limits powercuts gatecheck systemd gige lgfdr detectors training-speed whatif dfsc-gap dfsc-ablation fuzz soak gate-safety long-line \
	test-arm64 sight overhead clean

demo: $(VENV)/.demo
	$(BIN)/onbelt demo --seconds $(SECONDS_DEMO)

test: $(VENV)/.train
	tests/setup_system.sh
	BIN=$(BIN) tests/run.sh $(PYTEST_ARGS)

check: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/engines.py --bundle edge/data/demo.onbelt
	$(BIN)/python benchmarks/against_anomalib.py --write
	$(BIN)/python benchmarks/fusions.py --write
	$(BIN)/python benchmarks/steady.py --bundle edge/data/demo.onbelt --write

limits: $(VENV)/.evidence
	$(BIN)/python benchmarks/drift_pictures.py --bundle edge/data/demo.onbelt --out build/drift-scores.json
	$(BIN)/python benchmarks/limits.py --bundle edge/data/demo.onbelt --scores build/drift-scores.json --write

PRODUCTS ?= tray vials harness

whatif: $(VENV)/.train
	for p in $(PRODUCTS); do \
	  $(BIN)/python benchmarks/whatif.py products/$$p.onbelt products/scenes/$$p --reports build/what-if --out build/whatif-$$p.json || exit 1; done
	$(BIN)/python benchmarks/whatif.py --read $(PRODUCTS:%=build/whatif-%.json) --write

dfsc-gap: $(VENV)/.train
	for p in $(PRODUCTS); do \
	  $(BIN)/python benchmarks/dfsc_gap.py --run products/runs/$$p --data products/scenes/$$p --out build/gap-$$p.json || exit 1; done
	$(BIN)/python benchmarks/dfsc_gap.py --read $(PRODUCTS:%=build/gap-%.json) --write

dfsc-ablation: $(VENV)/.train $(VENV)/.evidence
	$(BIN)/python benchmarks/dfsc_ablation.py products/scenes/harness --out build/dfsc-ablation.jsonl --write

powercuts: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/power_cuts.py --report docs/powercuts.md

gatecheck: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/gatecheck.py --report docs/gatecheck.md

systemd: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/systemd_box.py --report docs/systemd.md

overhead: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/overhead.py --report docs/overhead.md

sight: $(VENV)/.train
	[ -e build/sight/scenes.json ] || $(BIN)/onbelt scenes build/sight --train 200 --validation 300 --test 100
	$(BIN)/python benchmarks/sight.py build/sight/tray build/sight/vials build/sight/harness --report docs/sight.md

soak: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/soak.py --report docs/soak.md

gate-safety: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/gate_safety.py --report docs/gate_safety.md

long-line: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/long_line.py --report docs/long_line.md

test-arm64: $(VENV)/.train
	PYTHON=$(BIN)/python REPORT=docs/arm64.md tests/arm64.sh

gige: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/gige.py --report docs/gige.md

lgfdr: $(VENV)/.train
	$(BIN)/python benchmarks/lgfdr_latency.py
	$(BIN)/python benchmarks/lgfdr.py $(SETS) --out build/lgfdr $(LGFDR_ARGS)

detectors: $(VENV)/.train
	$(BIN)/python benchmarks/detectors.py $(SETS) --out build/detectors $(DETECTORS_ARGS) --write

training-speed: $(VENV)/.train
	$(BIN)/python benchmarks/training_speed.py --report docs/training-speed.md

products: $(VENV)/.train
	BIN=$(BIN) benchmarks/products.sh

update-kills: $(VENV)/.train
	ONBELT_KILL_STRIDE=1 $(BIN)/python -m pytest -s tests/fault/test_update_kill.py

update-power-cuts: $(VENV)/.train
	$(BIN)/python benchmarks/update_power_cuts.py

update-switch: $(VENV)/.train
	tests/setup_system.sh
	ONBELT_SWITCH_RATE=30 $(BIN)/python -m pytest -s tests/integration/test_update_switch.py -k running_belt
	$(BIN)/python benchmarks/update_switch.py --report docs/update-switch.md

update-bad-models: $(VENV)/.train
	tests/setup_system.sh
	ONBELT_BAD_MODELS=all $(BIN)/python -m pytest -s tests/integration/test_update_bad_models.py

update-mqtt: $(VENV)/.train
	tests/setup_system.sh
	ONBELT_CARRY_MB=20 $(BIN)/python -m pytest -s tests/integration/test_update_carried.py

fleet: $(VENV)/.train
	tests/setup_system.sh
	$(BIN)/python benchmarks/fleet.py --report docs/fleet.md

fuzz: $(VENV)/.train
	$(PIP) install -e '.[fuzz]'
	$(BIN)/python benchmarks/fuzz.py --seconds $(SECONDS_FUZZ) --report docs/fuzz.md

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e '.[demo]'
	touch $@

# torch goes in first and alone: a resolver that may choose would take a CUDA build of several GB.
$(VENV)/.train: $(VENV)/.demo
	$(PIP) install '$(TORCH)'
	$(PIP) install -e '.[demo,train,test]'
	-$(PIP) install -e '.[gpu-test]' # a wheel that does not exist here costs a few tests, and they say so
	touch $@

$(VENV)/.evidence: $(VENV)/.demo
	$(PIP) install -e '.[demo,evidence]'
	touch $@

# anomalib without what it depends on (3 GB): the comparison takes one file of it, and exports as it does.
$(VENV)/.bench: $(VENV)/.train
	$(PIP) install -e '.[demo,train,test,bench]'
	$(PIP) install --no-deps 'anomalib>=2.7,<3'
	touch $@

$(VENV)/.check: $(VENV)/.train
	$(PIP) install -e '.[demo,train,test,check]'
	touch $@

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
