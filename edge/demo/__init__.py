"""The whole line on one machine: a simulated belt, real processes for broker, daemon and gate, and an honest summary."""
