#!/usr/bin/env bash
# All tests, in three parts that all run: unit tests by as many processes as there are cores and one thread each; then integration
# tests that no clock judges, a killed training among them, by twice as many, since they wait more than they compute (two cores: 28 %
# busy with two processes); then, alone on the machine, what holds daemons and gates to deadlines.
# Arguments go to all.
#   BIN   where python is (default .venv/bin)
set -uo pipefail
BIN=${BIN:-.venv/bin}
ALONE=(tests/integration/test_{daemon_budget,demo_run,gate_process,update_switch}.py)
TIMELESS=tests/fault/test_training_kill.py
failed=0
WAITING=$((2 * $(nproc)))  # asked before OMP_NUM_THREADS is set, which nproc heeds
export OMP_NUM_THREADS=1
"$BIN/python" -m pytest -n auto --dist loadfile tests/unit "$@" || failed=1
"$BIN/python" -m pytest -n "$WAITING" --dist loadfile tests/integration tests/hil "$TIMELESS" "${ALONE[@]/#/--ignore=}" "$@" || failed=1
OMP_NUM_THREADS=2 "$BIN/python" -m pytest tests/fault "${ALONE[@]}" --ignore="$TIMELESS" "$@" || failed=1
exit "$failed"
