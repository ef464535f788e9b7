"""Times of day at which a switch may happen."""

import time


def is_open(windows: list[str], utc_us: int) -> bool:
    """Whether a moment lies in one of the windows ("22:00-04:30", UTC, may cross midnight); no windows are always open.

    Args:
        windows: checked by their schema.
        utc_us: microseconds UTC.
    """
    if not windows:
        return True
    moment = time.gmtime(utc_us // 1_000_000)
    now = moment.tm_hour * 60 + moment.tm_min
    return any(_within(now, *map(_minutes, window.split("-"))) for window in windows)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _within(now: int, begin: int, end: int) -> bool:
    return begin <= now < end if begin < end else now >= begin or now < end
