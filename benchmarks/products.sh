#!/usr/bin/env bash
# From nothing to evaluated, signed bundles of the belt's products, by the commands a user runs. About half an hour a product on two
# AVX2 cores. Resumable: what is finished is kept, an unfinished training goes on from its checkpoint.
#   BIN   where `onbelt` is (default .venv/bin)       OUT  where everything goes (default products)
#   NAMES products (default all)                      NATURAL  photographs of anything (default: generated pictures alone)
set -euo pipefail
BIN=${BIN:-.venv/bin}
OUT=${OUT:-products}
NAMES=${NAMES:-tray harness vials}
mkdir -p "$OUT/runs" "$OUT/reports"

# 600 good parts to learn from, 700 held out (100 shape the score, 600 set a limit that is guaranteed), 150 of each kind to test on.
# Each split has a seed of its own, written to scenes.json.
[ -e "$OUT/scenes/scenes.json" ] || "$BIN/onbelt" scenes "$OUT/scenes" --train 600 --validation 700 --test 150

for name in $NAMES; do
  run="$OUT/runs/$name"
  if [ ! -e "$run/run.json" ]; then
    resume=()
    [ -e "$run/checkpoint.pt" ] && resume=(--resume)
    "$BIN/onbelt" train "$OUT/scenes/$name" --model dfsc-efficientad-s --size 128 --seed 0 --out "$run" \
      ${NATURAL:+--natural "$NATURAL"} "${resume[@]}"
  fi
  "$BIN/onbelt" export "$run" "$OUT/scenes/$name" --out "$OUT/$name.onbelt" --product "$name" --false-reject 0.005
  "$BIN/onbelt" evaluate "$OUT/$name.onbelt" "$OUT/scenes/$name" --baselines --report "$OUT/reports/$name"
done
