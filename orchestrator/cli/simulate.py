"""`orchestrator simulate SAGA`: a saga through random schedules of a hostile world, held against the rules."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.local import load_catalog
from orchestrator.cli.options import Json
from orchestrator.cli.output import CliError, ExitCode, Output

if TYPE_CHECKING:
    from orchestrator.testing.explore import ExploredError
    from orchestrator.testing.exploring import Report

REACHABLE = frozenset({"step", "call", "task", "wait", "delay", "compute", "scope", "for_each", "repeat", "parallel"})


def simulate(
    name: Annotated[str, typer.Argument(metavar="SAGA", help="The saga's name.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=10_000_000, help="How many schedules.")] = 500,
    first: Annotated[
        int, typer.Option("--first", min=0, help="The first seed: a seed is always the same schedule.")
    ] = 0,
    number: Annotated[int, typer.Option("--version", min=0, help="Which version; default the newest.")] = 0,
    as_json: Json = False,
) -> None:
    """Runs a saga through losses, refusals, crashes, cancels, wrong people; exit code 6 where a rule is broken."""
    from orchestrator.messages import ContractError
    from orchestrator.testing.explore import ExploredError
    from orchestrator.testing.explore import simulate as run

    out = Output(as_json)
    saga = _found(name, number)
    began = time.monotonic()
    try:
        report = run(saga, range(first, first + seeds))
    except ContractError as error:
        do = "give the contract's fields examples: Annotated[str, Field(examples=[...])]"
        raise CliError(ExitCode.FAILED, f"no example can be made: {error}", do) from error
    except ExploredError as error:
        _broken(out, saga, error)
        raise typer.Exit(ExitCode.FOUND_SOMETHING) from error
    _told(out, saga, report, first, time.monotonic() - began)


def _found(name: str, number: int) -> Any:
    catalog = load_catalog()
    saga = catalog.sagas.get((name, number)) if number else catalog.newest.get(name)
    if saga is None:
        known = ", ".join(f"{n} v{v}" for n, v in sorted(catalog.sagas))
        raise CliError(ExitCode.NOT_FOUND, f"no saga {name!r}{f' v{number}' if number else ''}", f"there are: {known}")
    return saga


def _told(out: Output, saga: Any, report: Report, first: int, seconds: float) -> None:
    from orchestrator.testing.exploring.faults import WORDS

    unreached = sorted(
        path for path, node in saga.graph.nodes.items() if node.kind in REACHABLE and path not in report.reached
    )
    out.object(
        {
            "ok": True, "saga": saga.name, "version": saga.version, "first": first, "seeds": report.seeds,
            "records": report.records, "seconds": round(seconds, 3), "ended": dict(report.ended),
            "outcomes": [{"phase": p, "outcome": o, "count": n} for (p, o), n in sorted(report.outcomes.items())],
            "faults": {fault: report.faults[fault] for fault in WORDS}, "neverReached": unreached,
        }
    )  # fmt: skip
    last = first + report.seeds - 1
    out.line(
        f"{saga.name} v{saga.version}: seeds {first} to {last}, {report.records:,} records, {seconds:.1f} s", "bold"
    )
    out.line()
    out.table(["ended", "as", "times"], [[p, o, f"{n:,}"] for (p, o), n in report.outcomes.most_common()])
    out.line()
    fired = [[WORDS[fault], f"{count:,}"] for fault, count in report.faults.most_common()]
    out.table(["what went wrong", "times"], fired)
    out.line()
    if unreached:
        out.line(f"never reached: {', '.join(unreached)}", "yellow")
    out.line("no rule was broken")


def _broken(out: Output, saga: Any, error: ExploredError) -> None:
    again = f"orchestrator simulate {saga.name} --version {saga.version} --first {error.seed} --seeds 1"
    out.object(
        {
            "ok": False, "saga": saga.name, "version": saga.version, "seed": error.seed, "broken": error.broken,
            "schedule": error.lines, "tried": error.tries, "repeat": again,
        }
    )  # fmt: skip
    out.line(f"{saga.name} v{saga.version}, seed {error.seed}: {error.broken}", "red")
    out.line()
    out.line(f"the shortest of {error.tries} schedules that show it:")
    for line in error.lines:
        out.line(line)
    out.line()
    out.say(f"repeat it: {again}")
