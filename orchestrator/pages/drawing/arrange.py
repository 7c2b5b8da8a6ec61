"""The layout of a graph: a flow is a tree of sequences and forks, so boxes are placed by recursion, top down.

Rules of this file
- The way that a saga goes when all is well runs straight down; every other path stands to its right, under its label.
- Space between boxes belongs to lines: forks have a lane above their columns, joins have one below. So no line runs
  through a box, and no two boxes overlap, whatever the flow (tests/pages/test_drawing.py draws random ones).
- Whole pixels. Nothing here knows about looks or text widths.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from orchestrator.kernel import graph as g

BOX_WIDTH, BOX_HEIGHT = 232, 48
GAP = 26  # between a box and the next one below
LANE = 40  # above the columns of a fork: the line, and a label under it
JOIN = 26
COLUMN_GAP = 32
EMPTY_WIDTH = 128  # a column without nodes still has a line and a label
FRAME_PAD = 18
PILL_HEIGHT = 30

_STRAIGHT = ("then", "on/approve", "true")
_CHOICES = frozenset({"choose", "parallel", "task"})
_FRAMED = frozenset({"scope", "for_each", "repeat"})


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node is drawn. `path` "" is the start, "." the good end, "!" the heading of the way after a failure."""

    path: str
    x: int
    y: int
    width: int = BOX_WIDTH
    height: int = BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class Line:
    """A line of upright and level parts, from one box to `to` (a path), or to a join ("").

    `of`: the path of a node (path, block) that it belongs to; `joins`: it leads from the end of that path onward.
    """

    points: tuple[tuple[int, int], ...]
    to: str = ""
    arrow: bool = True
    of: tuple[str, str] = ("", "")
    joins: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """Words at a line, beginning at this point."""

    text: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawn flow. Frames stand around the boxes of a scope or loop, its own head box among them."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    frames: tuple[Box, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]


@dataclass(slots=True)
class _Piece:
    """Something laid out. Flow comes in at (spine, 0) and, where `open`, goes out at (spine, height)."""

    width: int
    height: int
    spine: int
    open: bool = True
    entry: str = ""  # the path of its first box
    boxes: list[Box] = field(default_factory=list[Box])
    frames: list[Box] = field(default_factory=list[Box])
    lines: list[Line] = field(default_factory=list[Line])
    labels: list[Label] = field(default_factory=list[Label])

    def put(self, other: _Piece, dx: int, dy: int) -> None:
        """Takes what another piece has drawn, moved."""
        self.boxes += [replace(box, x=box.x + dx, y=box.y + dy) for box in other.boxes]
        self.frames += [replace(box, x=box.x + dx, y=box.y + dy) for box in other.frames]
        self.labels += [replace(label, x=label.x + dx, y=label.y + dy) for label in other.labels]
        self.lines += [replace(line, points=tuple((x + dx, y + dy) for x, y in line.points)) for line in other.lines]


def arrange(graph: g.Graph) -> Layout:
    """The layout of a whole saga: its flow, and beside it what happens after the last undo."""
    main = _stack([_pill(""), *_pieces(graph, graph.first), _pill(".")])
    if graph.has_on_failed:
        beside = _stack([_pill("!"), *_pieces(graph, graph.on_failed)])
        whole = _Piece(main.width + 2 * COLUMN_GAP + beside.width, max(main.height, beside.height), main.spine)
        whole.put(main, 0, 0)
        whole.put(beside, main.width + 2 * COLUMN_GAP, 0)
        main = whole
    return Layout(main.width, main.height, tuple(main.boxes), tuple(main.frames), tuple(main.lines), tuple(main.labels))


def _pieces(graph: g.Graph, first: str | None) -> list[_Piece]:
    found = []
    while first is not None:
        found.append(_node(graph, graph.nodes[first]))
        first = graph.nodes[first].next
    return found


def _pill(path: str) -> _Piece:
    return _Piece(BOX_WIDTH, PILL_HEIGHT, BOX_WIDTH // 2, True, path, [Box(path, 0, 0, BOX_WIDTH, PILL_HEIGHT)])


def _stack(pieces: list[_Piece]) -> _Piece:
    """One below the other, on one spine."""
    if not pieces:
        return _Piece(EMPTY_WIDTH, 0, 0)
    spine = max(piece.spine for piece in pieces)
    whole = _Piece(0, 0, spine, entry=pieces[0].entry)
    for number, piece in enumerate(pieces):
        if number:
            if whole.open:
                line = ((spine, whole.height), (spine, whole.height + GAP))
                whole.lines.append(
                    Line(line, piece.entry, arrow=not piece.frames or piece.frames[0].path != piece.entry)
                )
            whole.height += GAP
        whole.put(piece, spine - piece.spine, whole.height)
        whole.height += piece.height
        whole.width = max(whole.width, spine - piece.spine + piece.width)
        whole.open = piece.open
    return whole


def _node(graph: g.Graph, node: g.Node) -> _Piece:
    """A node with everything that hangs below it."""
    head = _Piece(BOX_WIDTH, BOX_HEIGHT, BOX_WIDTH // 2, True, node.path, [Box(node.path, 0, 0)])
    if node.kind in _FRAMED:
        head = _framed(node, _stack([head, *_pieces(graph, node.blocks.get("body"))]))
    head.open = node.kind not in ("end", "fail", "leave")
    columns = [(block, _stack(_pieces(graph, first))) for block, first in _columns(node)]
    return _fork(node, head, columns) if len(columns) > 1 or (columns and columns[0][1].boxes) else head


def _framed(node: g.Node, body: _Piece) -> _Piece:
    """A frame around a scope or loop; the head box stands inside, at the top."""
    width, height = body.width + 2 * FRAME_PAD, body.height + 2 * FRAME_PAD
    whole = _Piece(width, height, body.spine + FRAME_PAD, entry=node.path)
    whole.frames.append(Box(node.path, 0, 0, width, height))
    whole.put(body, FRAME_PAD, FRAME_PAD)
    spine = whole.spine
    whole.lines.append(Line(((spine, 0), (spine, FRAME_PAD)), node.path))
    if body.open:
        whole.lines.append(Line(((spine, height - FRAME_PAD), (spine, height)), "", False, (node.path, ""), joins=True))
    return whole


def _columns(node: g.Node) -> list[tuple[str, str | None]]:
    """(block, first node) of every path below a node, the straight one first."""
    blocks = [(key, first) for key, first in node.blocks.items() if key != "body"]
    straight = next((key for key in _STRAIGHT if key in node.blocks), None)
    if straight is None and node.kind not in _CHOICES:
        blocks.insert(0, ("", None))
    blocks.sort(key=lambda block: block[0] not in (straight, ""))
    return blocks


def _said(node: g.Node, block: str) -> str:
    """A path's label: when it is taken."""
    if block in ("", "then") or node.kind == "parallel":
        return ""
    if node.kind == "choose":
        otherwise = "no" if "true" in node.blocks else "otherwise"
        return {"true": "yes", "false": "no", "otherwise": otherwise}.get(block, block)
    words = block.removeprefix("on/").removeprefix("on_").replace("_", " ")
    words = {"timeout": "too late", "exhausted": "gave up"}.get(words, words)
    return words.rpartition(".")[2] if node.kind == "scope" and "." in words else words


def _fork(node: g.Node, head: _Piece, columns: list[tuple[str, _Piece]]) -> _Piece:
    """A head with paths below it, side by side, which meet again where they do not end."""
    spine = max(head.spine, columns[0][1].spine)
    whole = _Piece(spine - head.spine + head.width, head.height, spine, entry=head.entry)
    whole.put(head, spine - head.spine, 0)
    top, lane = head.height + LANE, head.height + LANE - 24
    left = spine - columns[0][1].spine
    bottom = top + max(column.height for _, column in columns)
    ends: list[tuple[int, int, str]] = []
    for number, (block, column) in enumerate(columns):
        x = left + column.spine
        way = [(spine, head.height), (spine, lane), (x, lane), (x, top)] if number else [(x, head.height), (x, top)]
        whole.lines.append(Line(tuple(way), column.entry, bool(column.boxes), (node.path, block)))
        label = _said(node, block)
        if label:
            whole.labels.append(Label(label, x + 8, top - 8))
        whole.put(column, left, top)
        if column.open:
            ends.append((x, top + column.height, block))
        needed = max(column.width, column.spine + EMPTY_WIDTH)
        whole.width = max(whole.width, left + needed)
        left += needed + COLUMN_GAP
    whole.open = bool(ends)
    whole.height = bottom + (JOIN if ends else 0)
    for x, y, block in ends:
        way = [(x, y), (x, whole.height)]
        if x != spine:
            way = [(x, y), (x, bottom + JOIN // 2), (spine, bottom + JOIN // 2), (spine, whole.height)]
        whole.lines.append(Line(tuple(way), "", False, (node.path, block), joins=True))
    return whole
