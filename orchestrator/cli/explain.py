"""`orchestrator explain CODE`: what an error code means and what to do, for definitions (ORC...) and API problems."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from orchestrator.cli.options import Json
from orchestrator.cli.output import CliError, ExitCode, Output


def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="An ORC number, or the code of an API problem.")],
    as_json: Json = False,
) -> None:
    """Explains an error code."""
    from orchestrator.api.problems import PROBLEMS
    from orchestrator.definition import explain as definition_page

    out = Output(as_json)
    problem = PROBLEMS.get(code.lower().replace("-", "_"))
    if problem is not None:
        out.object(
            {
                "code": code,
                "status": problem.status,
                "title": problem.title,
                "meaning": problem.meaning,
                "do": problem.remedy,
            }
        )
        out.line(f"{code}: {problem.title} (HTTP {problem.status})", "bold")
        out.line(problem.meaning)
        out.line(f"do: {problem.remedy}")
        return
    page = definition_page(code)
    if page is None:
        nearest = difflib.get_close_matches(code.lower(), list(PROBLEMS), 3)
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "definition errors are called ORC and a number"
        raise CliError(ExitCode.NOT_FOUND, f"there is no error code {code!r}", hint)
    out.object({"code": code.upper(), "text": page})
    out.line(page)
