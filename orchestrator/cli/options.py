"""Options that many verbs share, and the questions that writing verbs ask."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli.output import CliError, ExitCode, Output

Json = Annotated[bool, typer.Option("--json", help="One JSON object, or one per line for lists, on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Reason = Annotated[str, typer.Option("--reason", help="Why. Required; it becomes part of the record.")]
SagaRef = Annotated[str, typer.Argument(metavar="ID", help="Saga id or business key.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many rows.")]


def require_reason(reason: str) -> None:
    """Raises CliError where a writing verb was given no reason."""
    if not reason.strip():
        raise CliError(ExitCode.USAGE, "a reason is required: it becomes part of the record", 'add --reason "..."')


def require_named(by: str, does: str) -> None:
    """Raises CliError where nobody is named for an act that the log itself cannot ascribe. `does`: a verb."""
    if not by.strip():
        raise CliError(ExitCode.USAGE, f"whoever {does} this is named: it stays in the audit trail", 'add --by "..."')


def agreed(out: Output, consequence: str, *, yes: bool, dry_run: bool) -> bool:
    """Says what will happen and asks. False after `--dry-run`; raises CliError where nobody agrees."""
    out.say(consequence)
    if dry_run:
        out.say("dry run: nothing was done")
        out.object({"dryRun": True, "consequence": consequence})
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise CliError(ExitCode.USAGE, "this changes something, and there is no terminal to ask at", "add --yes")
    sys.stderr.write("Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CliError(ExitCode.FAILED, "not confirmed; nothing was done")
    return True
