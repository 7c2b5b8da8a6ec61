"""Charts as SVG: a small trend, and bars with an axis and a target. The numbers stand in a table beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from orchestrator.pages.odd_text import Html

_WIDTH, _HEIGHT = 100, 30
_BARS_WIDTH, _BARS_HEIGHT, _LEFT, _BOTTOM = 960, 220, 64, 24


def trend(values: Sequence[float | None], target: float | None) -> Html:
    """A line without axis; gaps where nothing was measured. "" where there are fewer than two values."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Html("")
    low, high = (
        min([*known, target if target is not None else known[0]]),
        max([*known, target if target is not None else known[0]]),
    )
    spread = (high - low) or 1.0
    step = _WIDTH / max(1, len(values) - 1)
    parts, is_open = [], False
    for index, value in enumerate(values):
        if value is not None:
            y = _HEIGHT - 2 - (value - low) / spread * (_HEIGHT - 4)
            parts.append(f"{'L' if is_open else 'M'}{index * step:.1f} {y:.1f}")
        is_open = value is not None
    line = ""
    if target is not None:
        y = _HEIGHT - 2 - (target - low) / spread * (_HEIGHT - 4)
        line = f'<path class="target" d="M0 {y:.1f}H{_WIDTH}"/>'
    drawn = f'<path d="{"".join(parts)}"/>'
    return Html(
        f'<svg class="trend" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{line}{drawn}</svg>"
    )


def bars(
    points: Sequence[tuple[str, float | None, bool]],
    *,
    target: float | None,
    top: float,
    label: Callable[[float], str],
    title: str,
) -> Html:
    """Bars of (name, value, is good). `top`: the axis goes at least so far."""
    highest = max([top, target or 0.0, *(value for _, value, _ in points if value is not None)]) or 1.0
    width = (_BARS_WIDTH - _LEFT) / max(1, len(points))
    height = _BARS_HEIGHT - _BOTTOM - 8

    def y(value: float) -> float:
        return 8 + height * (1 - value / highest)

    parts = [f"<title>{escape(title)}</title>"]
    for share in (0.0, 0.5, 1.0):
        at = y(highest * share)
        parts.append(f'<path class="axis" d="M{_LEFT} {at:.1f}H{_BARS_WIDTH}"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(label(highest * share))}</text>'
        )
    every = max(1, len(points) // 10)
    for index, (name, value, is_good) in enumerate(points):
        x = _LEFT + index * width
        if value is not None:
            kind = "bar" if is_good else "bar-bad"
            tall = max(1.0, height * value / highest)
            parts.append(
                f'<rect class="{kind}" x="{x + width * 0.15:.1f}" y="{y(value):.1f}" width="{width * 0.7:.1f}"'
                f' height="{tall:.1f}"><title>{escape(f"{name}: {label(value)}")}</title></rect>'
            )
        if index % every == 0:
            parts.append(
                f'<text x="{x + width / 2:.1f}" y="{_BARS_HEIGHT - 6}" text-anchor="middle">{escape(name)}</text>'
            )
    if target is not None:
        parts.append(f'<path class="target" d="M{_LEFT} {y(target):.1f}H{_BARS_WIDTH}" stroke="currentColor"/>')
    inside = "".join(parts)
    return Html(
        f'<svg class="chart" viewBox="0 0 {_BARS_WIDTH} {_BARS_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{inside}</svg>"
    )
