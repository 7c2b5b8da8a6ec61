"""The picture as SVG text: links with words in them, looks as classes, everything else as presentation attributes.

Rules of this file
- Every node is one link to its line in the list twin, and says in its accessible name all that the twin says.
- Text is escaped here, once; names come from authors. What is too long for its box is cut with an ellipsis, and stands
  in full in the title and in the twin.
- No inline style and no script: what it looks like stands in the style sheet, for both themes and for print.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from orchestrator.kernel import graph as g
from orchestrator.pages.drawing.arrange import Box, Label, Line, arrange
from orchestrator.pages.drawing.standing import Mark, follows, standing_at, ways
from orchestrator.pages.odd_text import Html

_MARGIN = 12
_NAME_CHARACTERS_MAX, _WORDS_CHARACTERS_MAX, _LABEL_CHARACTERS_MAX = 24, 32, 18
_SVG = (
    '<svg class="graph" viewBox="{x} {x} {width} {height}" width="{width}" height="{height}" role="group"'
    ' aria-labelledby="{name}-title"><title id="{name}-title">Graph of {title}</title>'
)
_NODE = '<a{id} class="node look-{look}{pivot}" href="{base}#{anchor}"><title>{spoken}</title>{inside}</a>'
# One sign per look, drawn in a square of 12: a tick, a dot, a ring, a triangle and so on; colour only repeats it.
_SIGNS = {
    "done": "M1.5 6.5 4.5 9.5 10.5 2.5",
    "running": "M6 1.5a4.5 4.5 0 1 0 .01 0zM6 4a2 2 0 1 0 .01 0z",
    "waiting": "M6 1.5a4.5 4.5 0 1 0 .01 0zM6 3.5V6l2 1.5",
    "stuck": "M6 1.2 11.2 10.5H.8zM6 4.5v3M6 8.6v.6",
    "undoing": "M4.5 2 1.5 5l3 3M1.5 5h6a3 3 0 0 1 0 6H5",
    "undone": "M4.5 2 1.5 5l3 3M1.5 5h6a3 3 0 0 1 0 6H5",
    "refused": "M2.5 2.5l7 7M9.5 2.5l-7 7",
    "expired": "M2 1.5h8M2 10.5h8M3 1.5c0 3 6 6 6 9M9 1.5c0 3-6 6-6 9",
    "next": "M6 1.5a4.5 4.5 0 1 0 .01 0z",
    "maybe": "M6 1.5a4.5 4.5 0 1 0 .01 0z",
    "untaken": "M2 6h8",
    "plain": "M6 4.5a1.5 1.5 0 1 0 .01 0z",
}


def draw(graph: g.Graph, marks: Mapping[str, Mark], *, base: str = "", name: str = "graph") -> Html:
    """The whole picture. `base` stands before the fragment of every link; `name`: the id prefix in its page."""
    layout = arrange(graph)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    picture = _fill(_SVG, x=-_MARGIN, width=width, height=height, name=name, title=f"{graph.name} v{graph.version}")
    parts = [_frame(frame, marks) for frame in layout.frames]
    gone, here = ways(graph, marks), standing_at(marks)
    parts += [_line(line, graph, marks, gone) for line in layout.lines]
    parts += [_label(label) for label in layout.labels]
    parts += [_box(box, graph, marks, base, f"{name}-here" if box.path == here else "") for box in layout.boxes]
    return Html(picture + "".join(parts) + "</svg>")


def _frame(box: Box, marks: Mapping[str, Mark]) -> Html:
    rect = _rect(box, 10)
    return _fill('<g class="frame look-{}">{}</g>', marks[box.path].look, rect)


def _rect(box: Box, radius: int) -> Html:
    return _fill(
        '<rect x="{}" y="{}" width="{}" height="{}" rx="{}" fill="none" stroke="currentColor"/>',
        box.x,
        box.y,
        box.width,
        box.height,
        radius,
    )


def _path(classes: str, drawn: str) -> Html:
    return _fill('<path class="{}" d="{}" fill="none" stroke="currentColor"/>', classes, drawn)


def _line(line: Line, graph: g.Graph, marks: Mapping[str, Mark], gone: Mapping[tuple[str, str], str]) -> Html:
    """A line is solid where the saga went, dashed where it may go, and faint where it did not."""
    kind = _kind(line, graph, marks, gone)
    (x, y), *rest = line.points
    drawn = _path(f"way way-{kind}", f"M{x} {y}" + "".join(f"L{a} {b}" for a, b in rest))
    if line.arrow and line.to:
        a, b = line.points[-1]
        drawn = Html(drawn + _path(f"tip way-{kind}", f"M{a - 4} {b - 6}L{a} {b}L{a + 4} {b - 6}"))
    return drawn


def _kind(line: Line, graph: g.Graph, marks: Mapping[str, Mark], gone: Mapping[tuple[str, str], str]) -> str:
    """taken, next or untaken: by what the line leads to, else by the path that it belongs to."""
    ahead = {"next": "next", "maybe": "next", "untaken": "untaken"}
    if line.to in marks:
        return ahead.get(marks[line.to].look, "taken")
    if line.to == ".":
        return _end(graph, marks)
    way = gone.get(line.of, "taken")
    if line.joins and way == "taken":
        after = follows(graph, graph.nodes[line.of[0]])
        return ahead.get(marks[after[0]].look, "taken") if after else "taken"
    return way


def _end(graph: g.Graph, marks: Mapping[str, Mark]) -> str:
    """The line to the good end: as the last node of the flow stands."""
    path = graph.first
    while path is not None and graph.nodes[path].next is not None:
        path = graph.nodes[path].next
    look = marks[path].look if path is not None else "plain"
    if look in ("done", "plain"):
        return "taken"
    return "untaken" if look in ("untaken", "undone", "refused", "expired", "undoing") else "next"


def _text(classes: str, x: int, y: int, text: str) -> Html:
    return _fill('<text class="{}" x="{}" y="{}">{}</text>', classes, x, y, text)


def _label(label: Label) -> Html:
    return _text("when", label.x, label.y, _cut(label.text, _LABEL_CHARACTERS_MAX))


def _box(box: Box, graph: g.Graph, marks: Mapping[str, Mark], base: str, id_: str) -> Html:
    if box.path in ("", ".", "!"):
        return _pill(box, graph)
    mark = marks[box.path]
    state = f"{mark.words} · {mark.took}" if mark.took else mark.words or mark.kind
    inside = [
        _rect(box, 6),
        _fill('<g transform="translate({} {})">{}</g>', box.x + 10, box.y + 10, _path("sign", _SIGNS[mark.look])),
        _text("name", box.x + 30, box.y + 20, _cut(mark.name, _NAME_CHARACTERS_MAX)),
        _text("state", box.x + 30, box.y + 37, _cut(state, _WORDS_CHARACTERS_MAX)),
        _pivot(box) if mark.pivot else Html(),
    ]
    return _fill(
        _NODE,
        id=_fill(' id="{}"', id_) if id_ else Html(),
        look=mark.look,
        pivot=" pivot" if mark.pivot else "",
        base=base,
        anchor=mark.anchor,
        spoken=mark.spoken,
        inside=Html("".join(inside)),
    )


def _pivot(box: Box) -> Html:
    """A filled diamond on the right edge: the point of no return."""
    x, y = box.x + box.width, box.y + box.height // 2
    return _path("diamond", f"M{x - 8} {y}L{x} {y - 8}L{x + 8} {y}L{x} {y + 8}z")


def _pill(box: Box, graph: g.Graph) -> Html:
    started = ", ".join(name.rpartition(".")[2] for name in graph.starts_on)
    text = {"": _cut(started, 30), ".": "completed", "!": "after the last undo"}[box.path]
    return _fill(
        '<g class="pill">{}<text x="{}" y="{}" text-anchor="middle">{}</text></g>',
        _rect(box, 15),
        box.x + box.width // 2,
        box.y + 20,
        text,
    )


def _fill(template: str, *values: Any, **named: Any) -> Html:
    """The template with these values in it, escaped unless they are markup already."""
    return Html(template.format(*map(_safe, values), **{name: _safe(value) for name, value in named.items()}))


def _safe(value: Any) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
