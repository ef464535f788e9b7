#!/usr/bin/env bash
# All tests: the unit tests by as many processes as there are cores, one thread each; then, alone on the machine, those that start
# brokers, daemons and gates and hold them to deadlines. Both always run. Arguments go to both.
#   BIN   where python is (default .venv/bin)
set -uo pipefail
BIN=${BIN:-.venv/bin}
failed=0
OMP_NUM_THREADS=1 "$BIN/python" -m pytest -n auto --dist loadfile tests/unit "$@" || failed=1
OMP_NUM_THREADS=2 "$BIN/python" -m pytest tests/integration tests/fault tests/hil "$@" || failed=1
exit "$failed"
