"""Verbs that need no running product: check, graph, init, version. They import the sagas of ORCHESTRATOR_SAGAS."""

from __future__ import annotations

import importlib
import importlib.metadata
import keyword
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.options import Json
from orchestrator.cli.output import CliError, ExitCode, Output

if TYPE_CHECKING:
    from orchestrator.runtime.catalog import Catalog

DISTRIBUTION = "saga-orchestrator"
_SUBMODULES = ("definition", "participants", "routes")


def version(as_json: Json = False) -> None:
    """Prints the version of the product and of Python."""
    out = Output(as_json)
    try:
        number = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        number = "unknown (not installed)"
    python = ".".join(map(str, sys.version_info[:3]))
    out.object({"version": number, "python": python})
    out.line(f"orchestrator {number}, Python {python}")


def check(as_json: Json = False) -> None:
    """Checks all sagas that ORCHESTRATOR_SAGAS names; exit code 6 where something is wrong."""
    from orchestrator.messages import ContractError
    from orchestrator.runtime.catalog import Catalog, CatalogError

    out = Output(as_json)
    modules = saga_modules()
    findings, failures = _import_all(modules)
    sagas: list[Any] = []
    if not findings and not failures:
        try:
            catalog = Catalog.load(modules)
            sagas = [catalog.sagas[key] for key in sorted(catalog.sagas)]
        except (CatalogError, ContractError) as error:
            failures.append({"module": ",".join(modules), "error": str(error)})
    errors = len(findings) + len(failures)
    out.object(
        {
            "ok": not errors,
            "sagas": [{"name": s.name, "version": s.version, "hash": s.graph.hash} for s in sagas],
            "errors": [_finding(found) for found in findings] + failures,
        }
    )
    for found in findings:
        out.line(str(found), "red")
    for failure in failures:
        out.line(f"{failure['module']}: {failure['error']}", "red")
    for saga in sagas:
        out.line(f"{saga.name} v{saga.version}  {len(saga.graph.nodes)} nodes  {saga.graph.hash[:12]}")
    out.line(f"{len(sagas)} sagas, {errors} error{'' if errors == 1 else 's'}")
    if errors:
        if findings:
            out.say(f"do: orchestrator explain {findings[0].code}")
        raise typer.Exit(ExitCode.FOUND_SOMETHING)


def graph(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The saga's name.")],
    format_: Annotated[Literal["mermaid", "json"], typer.Option("--format", help="mermaid or json.")] = "mermaid",
    number: Annotated[int, typer.Option("--version", min=0, help="Which version; default the newest.")] = 0,
    as_json: Json = False,
) -> None:
    """Draws a saga: steps with their undo, people with their time limits, the point of no return."""
    from orchestrator.definition.draw import mermaid
    from orchestrator.messages import canonical_bytes

    catalog = load_catalog()
    saga = catalog.sagas.get((name, number)) if number else catalog.newest.get(name)
    if saga is None:
        known = ", ".join(f"{n} v{v}" for n, v in sorted(catalog.sagas))
        raise CliError(ExitCode.NOT_FOUND, f"no saga {name!r}{f' v{number}' if number else ''}", f"there are: {known}")
    if as_json or format_ == "json":
        sys.stdout.write(canonical_bytes(saga.graph.data).decode() + "\n")
    else:
        sys.stdout.write(mermaid(saga.graph).rstrip("\n") + "\n")


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new package: small letters, digits, _.")],
    as_json: Json = False,
) -> None:
    """Makes a package with contracts, one saga (with an undo and an approval), participants and a test that passes."""
    out = Output(as_json)
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,40}", name) or keyword.iskeyword(name) or name in sys.stdlib_module_names:
        hint = "small letters, digits and _, at least two, and not a name of Python's own: for example shop"
        raise CliError(ExitCode.USAGE, f"{name!r} cannot be a package's name", hint)
    target = Path(name)
    if target.exists():
        raise CliError(ExitCode.CONFLICT, f"{target} is there already", "choose another name, or remove it")
    made = []
    try:
        target.mkdir()
        for file, text in scaffold(name):
            (target / file).write_text(text, encoding="utf-8")
            made.append(str(target / file))
    except OSError as error:
        raise CliError(ExitCode.FAILED, f"cannot write {error.filename}: {error.strerror}") from error
    out.object({"made": made, "sagas": name})
    out.line(f"made {', '.join(made)}")
    out.line("next:")
    out.line(f"  export ORCHESTRATOR_SAGAS={name}")
    out.line("  orchestrator check")
    out.line(f"  python -m pytest {name}")
    out.line(f"  orchestrator serve      # then: orchestrator emit {name}.OrderPlaced --example")


def scaffold(name: str) -> Iterator[tuple[str, str]]:
    """The files of a new package: (file name, text)."""
    yield "__init__.py", f'"""The {name} sagas, their contracts and participants."""\n'
    for template in sorted((files("orchestrator.cli") / "scaffold").iterdir(), key=lambda entry: entry.name):
        if template.name.endswith(".py.txt"):
            yield template.name.removesuffix(".txt"), Template(template.read_text("utf-8")).substitute(name=name)


def saga_modules() -> tuple[str, ...]:
    """The modules to look for sagas in; the current directory can be imported from. Raises CliError."""
    from orchestrator.config import SettingsError, load_settings

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return load_settings().saga_modules
    except SettingsError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the environment variable") from error


def load_catalog() -> Catalog:
    """The installed sagas. Raises CliError saying what is wrong with them."""
    from orchestrator.definition import DefinitionError
    from orchestrator.messages import ContractError
    from orchestrator.runtime.catalog import Catalog, CatalogError

    try:
        return Catalog.load(saga_modules())
    except (DefinitionError, CatalogError, ContractError) as error:
        raise CliError(ExitCode.FOUND_SOMETHING, str(error).strip(), "orchestrator check") from error


def _import_all(modules: tuple[str, ...]) -> tuple[list[Any], list[dict[str, str]]]:
    """Imports everything, going on after a broken module: findings of definitions, and other failures."""
    from orchestrator.definition import DefinitionError

    findings: dict[Any, None] = {}
    failures: list[dict[str, str]] = []
    waiting = list(modules)
    while waiting:
        name = waiting.pop(0)
        try:
            module = importlib.import_module(name)
        except DefinitionError as error:
            findings.update(dict.fromkeys(error.findings))
            continue
        except Exception as error:  # whatever an author's module does while it is imported is a finding here
            failures.append({"module": name, "error": f"{type(error).__name__}: {error}"})
            continue
        for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if found.ispkg or found.name in _SUBMODULES:
                waiting.append(f"{name}.{found.name}")
    return list(findings), failures


def _finding(found: Any) -> dict[str, Any]:
    return {
        "code": found.code,
        "file": found.place.file,
        "line": found.place.line,
        "saga": found.saga,
        "text": found.text,
        **{label.replace(" ", "_"): text for label, text in found.rows},
    }
