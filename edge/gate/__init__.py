"""The reference gate: default reject, PASS is a permit. `rules` decides without I/O, `process` is the loop around it."""
