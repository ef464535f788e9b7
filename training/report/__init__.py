"""The report: one HTML file with figures, curves and pictures, which opens anywhere and asks the network for nothing."""

from training.report.page import write_report

__all__ = ["write_report"]
