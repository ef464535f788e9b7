"""The box beside the belt: cameras, engines, judge, verdicts, gate, page; owner of every shared contract."""

__version__ = "0.1.0"
__all__ = ["__version__"]
