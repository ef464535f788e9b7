#!/usr/bin/env bash
# All tests, in two parts that both always run: first, by as many processes as there are cores and one thread each, what no clock
# judges; then, alone on the machine, what holds daemons and gates to deadlines. Arguments go to both.
#   BIN   where python is (default .venv/bin)
set -uo pipefail
BIN=${BIN:-.venv/bin}
ALONE=(tests/integration/test_daemon_budget.py tests/integration/test_demo_run.py tests/integration/test_update_switch.py)
failed=0
OMP_NUM_THREADS=1 "$BIN/python" -m pytest -n auto --dist loadfile tests/unit tests/integration tests/hil \
  "${ALONE[@]/#/--ignore=}" "$@" || failed=1
OMP_NUM_THREADS=2 "$BIN/python" -m pytest tests/fault "${ALONE[@]}" "$@" || failed=1
exit "$failed"
