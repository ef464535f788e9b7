"""Explicit INT8: activation ranges, weight rounding, which parts stay in float."""
