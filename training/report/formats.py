"""How the report writes figures."""


def number(value: float | None) -> str:
    """An area under a curve, to three places; "-" where there is none."""
    return "-" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """A share in per cent, to one place; "-" where there is none."""
    return "-" if value is None else f"{value:.1%}"


def span(ends: tuple[float, float]) -> str:
    """Both ends of an interval of areas."""
    return f"{ends[0]:.3f}\u2013{ends[1]:.3f}"


def percents(ends: tuple[float, float]) -> str:
    """Both ends of an interval of shares, in per cent."""
    return f"{100 * ends[0]:.1f}\u2013{100 * ends[1]:.1f}\u00a0%"
