"""The top of the command line: all verbs, and the one place where an error becomes a message and an exit code.

Rules of this file
- A verb ends normally (0) or raises: CliError for the person at the keyboard, typer.Exit(code) for another code. Typer
  throws return values away, so nothing may depend on them.
- Nobody ever sees a traceback, unless ORCHESTRATOR_DEBUG is set: then for whoever mends the product.
- Verbs import what they need when they run, so that `--help` and completion are quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli import (
    allowing,
    audit,
    definitions,
    evidence,
    letters,
    notices,
    packs,
    people,
    projections,
    sagas,
    subjects,
    tasks,
    traces,
)
from orchestrator.cli.bench import app as bench_app
from orchestrator.cli.events import emit
from orchestrator.cli.explain import explain
from orchestrator.cli.live import live
from orchestrator.cli.local import check, graph, init, version
from orchestrator.cli.output import EXIT_CODES, CliError, ExitCode, Output
from orchestrator.cli.run import demo, migrate, serve
from orchestrator.cli.simulate import simulate

app = typer.Typer(
    name="orchestrator",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EXIT_CODES,
    help="Event-sourced saga orchestrator. Reading and writing verbs talk to the API at ORCHESTRATOR_API_URL.",
)
for verb in (demo, init, serve, live, migrate, check, graph, simulate, emit, explain, version):
    app.command()(verb)
app.add_typer(sagas.app, name="saga")
app.add_typer(tasks.app, name="task")
app.add_typer(letters.app, name="letter")
app.add_typer(definitions.app, name="definition")
app.add_typer(subjects.app, name="subject")
app.add_typer(subjects.vault, name="vault")
app.add_typer(notices.app, name="notice")
app.add_typer(audit.app, name="audit")
for proving in (evidence.verify, evidence.log, evidence.checkpoint, evidence.accept, allowing.allow_start):
    audit.app.command()(proving)
audit.app.add_typer(evidence.keys, name="keys")
audit.app.command("pack")(packs.pack)
audit.app.command("verify-pack")(packs.verify_pack)
app.add_typer(audit.sla, name="sla")
app.add_typer(projections.app, name="projection")
app.add_typer(traces.app, name="traces")
app.add_typer(people.keys, name="key")
app.add_typer(people.users, name="user")
app.add_typer(bench_app, name="bench")


@app.callback()
def top(
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; NO_COLOR does the same.")] = False,
) -> None:
    """Runs before every verb."""
    if no_color:
        os.environ["NO_COLOR"] = "1"


def run(arguments: Sequence[str]) -> int:
    """Carries out one command line and gives its exit code. Never raises."""
    out = Output("--json" in arguments)
    try:
        result = app(list(arguments), standalone_mode=False)
    except CliError as error:
        out.error(error)
        return int(error.code)
    except (KeyboardInterrupt, typer.Abort):
        out.say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output (head, less) has gone: not an error of ours, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except Exception as error:
        return _unforeseen(out, error)
    return result if isinstance(result, int) else int(ExitCode.DONE)


def main() -> None:
    """The installed command."""
    sys.exit(run(sys.argv[1:]))


def _unforeseen(out: Output, error: Exception) -> int:
    """Usage errors of the parser (they know how to show themselves), and bugs."""
    show = getattr(error, "show", None)
    if show is not None:
        show()
        return int(getattr(error, "exit_code", ExitCode.USAGE))
    if os.environ.get("ORCHESTRATOR_DEBUG"):
        import traceback

        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}"
    out.error(CliError(ExitCode.FAILED, what, "set ORCHESTRATOR_DEBUG=1 to see where, and report it"))
    return int(ExitCode.FAILED)
