"""How long, as people say it, in at most two units: `0.4 s`, `39 min`, `1 h 40 min`, `2 d`."""

from __future__ import annotations

from datetime import timedelta

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def span(length: timedelta) -> str:
    """A length of time; what is under a minute with one decimal, under 0.1 s in milliseconds."""
    seconds = max(0.0, length.total_seconds())
    if seconds < 0.0995:
        return f"{round(seconds * 1000)} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    for place, (unit, size) in enumerate(_UNITS):
        if whole >= size:
            count, rest = divmod(whole, size)
            finer = _UNITS[place + 1] if place + 1 < len(_UNITS) else None
            second = rest // finer[1] if finer and count < 10 else 0
            return f"{count} {unit} {second} {finer[0]}" if finer and second else f"{count} {unit}"
    raise AssertionError("a minute at least")
