"""Limits that come after the bundle: signed files of their own, read strictly and applied to the one model they name."""
