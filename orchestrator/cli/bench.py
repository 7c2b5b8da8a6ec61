"""`orchestrator bench ...`: how fast the shipped product is on this machine, and how fast the bare loop could be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.options import Json
from orchestrator.cli.output import EXIT_CODES, ExitCode, Output

if TYPE_CHECKING:
    from orchestrator.bench.flow import Flow, FlowOptions

app = typer.Typer(
    no_args_is_help=True, epilog=EXIT_CODES, help="Benches: orders, steps, parked, grown, traces, sealing, limit."
)

Sagas = Annotated[int, typer.Option("--sagas", min=10, max=10_000_000, help="How many sagas.")]
Broker = Annotated[Literal["kafka", "postgres"], typer.Option("--broker", help="kafka or postgres.")]
Concurrency = Annotated[str, typer.Option("--concurrency", help="Sagas under way at once: a number, or open.")]
Coordinators = Annotated[int, typer.Option("--coordinators", min=1, max=16, help="Processes that share.")]


@app.command()
def orders(
    sagas: Sagas = 2_000,
    broker: Broker = "kafka",
    concurrency: Concurrency = "open",
    coordinators: Coordinators = 1,
    as_json: Json = False,
) -> None:
    """Orders through the shipped `serve`: real broker and PostgreSQL, one in ten compensating; results are checked."""
    from orchestrator.bench.flow import FlowOptions
    from orchestrator.bench.orders import ORDERS

    _run(ORDERS, FlowOptions(sagas, broker, concurrency, coordinators), Output(as_json))


@app.command()
def steps(
    sagas: Sagas = 2_000,
    broker: Broker = "kafka",
    concurrency: Concurrency = "open",
    coordinators: Coordinators = 1,
    as_json: Json = False,
) -> None:
    """As `orders`, with the plain saga of three steps that other engines are measured with."""
    from orchestrator.bench.flow import FlowOptions
    from orchestrator.bench.steps.flow import STEPS

    _run(STEPS, FlowOptions(sagas, broker, concurrency, coordinators), Output(as_json))


def _run(flow: Flow, options: FlowOptions, out: Output) -> None:
    from orchestrator.bench.flow import bench_flow
    from orchestrator.cli.run import run_async

    if not run_async(bench_flow(flow, options, out)):
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


@app.command()
def parked(
    sagas: Sagas = 10_000,
    broker: Broker = "kafka",
    wakes: Annotated[int, typer.Option("--wakes", min=1, max=480, help="Approvals measured, each time.")] = 100,
    as_json: Json = False,
) -> None:
    """Sagas that wait for a person: how fast they park, what they weigh, and how fast one is woken among them."""
    from orchestrator.bench.parked import ParkedOptions, bench_parked
    from orchestrator.cli.run import run_async

    run_async(bench_parked(ParkedOptions(sagas, broker, wakes), Output(as_json)))


@app.command()
def grown(
    sagas: Sagas = 2_000,
    broker: Broker = "kafka",
    stored: Annotated[int, typer.Option("--stored", min=100, max=50_000_000, help="Orders stored before.")] = 100_000,
    as_json: Json = False,
) -> None:
    """What an order costs in a store that has many, compared with an empty one."""
    from orchestrator.bench.grown import GrownOptions, bench_grown
    from orchestrator.cli.run import run_async

    if not run_async(bench_grown(GrownOptions(sagas, stored, broker), Output(as_json))):
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


@app.command()
def traces(
    sagas: Sagas = 5_000,
    broker: Broker = "kafka",
    rate: Annotated[int, typer.Option("--rate", min=0, help="Sagas a second; 0: as fast as it goes.")] = 500,
    ratios: Annotated[str, typer.Option("--ratios", help="Shares sampled, with commas; the first is the base.")] = (
        "0,0.01,1"
    ),
    turns: Annotated[int, typer.Option("--turns", min=1, max=20, help="How often each has its turn.")] = 3,
    as_json: Json = False,
) -> None:
    """What traces cost: processor time for each saga at a fixed load, with none, 1 % and all of them sampled."""
    from orchestrator.bench.traces import TraceOptions, bench_traces
    from orchestrator.cli.output import CliError
    from orchestrator.cli.run import run_async

    try:
        shares = tuple(float(part) for part in ratios.split(","))
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"--ratios {ratios!r}", "numbers from 0 to 1, with commas") from error
    if not run_async(bench_traces(TraceOptions(sagas, broker, rate, shares, turns), Output(as_json))):
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


@app.command()
def sealing(
    sagas: Sagas = 3_000,
    broker: Broker = "kafka",
    rate: Annotated[int, typer.Option("--rate", min=0, help="Orders a second; 0: as fast as it goes.")] = 100,
    turns: Annotated[int, typer.Option("--turns", min=1, max=20, help="How often each has its turn.")] = 3,
    as_json: Json = False,
) -> None:
    """What sealing personal values costs: processor time for each order, without a vault and with one, in turns."""
    from orchestrator.bench.sealing import SealingOptions, bench_sealing
    from orchestrator.cli.run import run_async

    if not run_async(bench_sealing(SealingOptions(sagas, broker, rate, turns), Output(as_json))):
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


@app.command()
def limit(sagas: Sagas = 2_000, broker: Broker = "kafka", as_json: Json = False) -> None:
    """The bare loop: the same bytes through the broker, the same rows into PostgreSQL, nothing decided."""
    from orchestrator.bench.limit import bench_limit
    from orchestrator.cli.run import run_async

    run_async(bench_limit(sagas, broker, Output(as_json)))
