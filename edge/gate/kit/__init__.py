"""The kit behind `onbelt gatecheck`: plays station and line before any gate, injects the faults, and judges what it does."""
