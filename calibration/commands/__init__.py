"""Verbs of the calibration side: found by entry point, run on the box as well as where models are made."""
