"""`orchestrator audit pack` and `orchestrator audit verify-pack`: one saga and its proof, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from orchestrator.cli.client import CONNECT_SECONDS_MAX, Api, segment
from orchestrator.cli.options import Json
from orchestrator.cli.output import CliError, ExitCode, Output

PACK_SECONDS_MAX = 600.0  # between two parts of a file


def pack(
    saga: Annotated[str, typer.Option("--saga", help="Saga id or business key.")],
    to: Annotated[Path | None, typer.Option("--out", help="The file to write; default: evidence-<saga>.zip.")] = None,
    checkpoint: Annotated[
        int,
        typer.Option(
            "--checkpoint", min=0, help="Number of the checkpoint to prove against; 0: the first that will do."
        ),
    ] = 0,
    related: Annotated[
        bool, typer.Option("--with-children", help="With the sagas that it called, and those that called it.")
    ] = False,
    zone: Annotated[str, typer.Option("--zone", help="Time zone of local times in the report, as Asia/Kolkata.")] = "",
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Leave sealed what is sealed under keys of people, in the report too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Writes the evidence pack of a saga: records, decisions, proofs, a readable report, and a verifier."""
    out, api = Output(as_json), Api()
    wanted: dict[str, Any] = {
        "related": related,
        "checkpoint": checkpoint,
        "sealed": sealed,
        **({"zone": zone} if zone else {}),
    }
    target = to or Path(f"evidence-{segment(saga)}.zip")
    try:
        file = target.open("xb")
    except FileExistsError as error:
        raise CliError(ExitCode.CONFLICT, f"{target} is there already", "choose another name with --out") from error
    except OSError as error:
        raise CliError(ExitCode.FAILED, f"cannot write {target}: {error.strerror}") from error
    try:
        with file:
            _download(api, f"/v1/sagas/{segment(saga)}/evidence", wanted, file)
    except BaseException:
        target.unlink(missing_ok=True)  # half a pack proves nothing
        raise
    out.object({"file": str(target), "bytes": target.stat().st_size})
    out.line(f"written: {target}")
    out.say(f"verify it, also without this product: orchestrator audit verify-pack {target} --key VKEY")


def _download(api: Api, path: str, wanted: dict[str, Any], file: Any) -> None:
    times = httpx2.Timeout(PACK_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
    try:
        with (
            httpx2.Client(base_url=api.url, timeout=times, trust_env=False) as client,
            client.stream("GET", path, params=wanted, headers=api.headers) as answer,
        ):
            if not answer.is_success:
                answer.read()
                raise api.problem(answer)
            for part in answer.iter_bytes():
                file.write(part)
    except httpx2.HTTPError as error:
        raise CliError(
            ExitCode.UNREACHABLE, f"{api.url}: {type(error).__name__}: {error}", "check ORCHESTRATOR_API_URL"
        ) from error


def verify_pack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The pack, or the folder that it was unpacked to.")],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="A key of the log (name+id+key), from a source that you trust; older ones, too."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Checks a pack without the product's database: signatures, chain, proofs; exit code 6 where something is wrong."""
    from orchestrator.evidence.notes import NoteError, Verifier
    from orchestrator.evidence.pack.checking import PackFileError, check, read_pack

    out = Output(as_json)
    try:
        found = check(read_pack(file), [Verifier.of(text) for text in key or ()])
    except NoteError as error:
        raise CliError(ExitCode.USAGE, f"--key: {error}", "copy the key whole, as name+id+key") from error
    except FileNotFoundError as error:
        raise CliError(ExitCode.NOT_FOUND, f"there is no {file}") from error
    except PackFileError as error:
        raise CliError(ExitCode.FOUND_SOMETHING, str(error)) from error
    except OSError as error:
        raise CliError(ExitCode.FAILED, f"cannot read {file}: {error.strerror or error}") from error
    except Exception as error:  # what nobody has thought of is a flaw of the pack, and no crash of whoever checks it
        said = f"{file} cannot be read any further: {type(error).__name__}: {error}"
        raise CliError(ExitCode.FOUND_SOMETHING, said) from error
    signed = found.checkpoint.checkpoint if found.checkpoint is not None else None
    out.object(
        {
            "holds": found.holds, "flaws": [{"file": name, "flaw": flaw} for name, flaw in found.flaws],
            "records": found.records, "files": found.files, "sagas": found.sagas, "about": found.about,
            "keys": [each.vkey for each in found.keys], "keyFromPack": found.own_key,
            "checkpoint": {"origin": signed.origin, "number": signed.number, "size": signed.size, "at": signed.time}
            if signed is not None else None,
        }
    )  # fmt: skip
    if found.own_key:
        out.say("the key came with the pack: give the log's own with --key, from a source that you trust")
    for name, flaw in found.flaws:
        out.line(f"{name}: {flaw}", "red")
    if not found.holds:
        raise typer.Exit(ExitCode.FOUND_SOMETHING)
    assert signed is not None
    out.line(
        f"{found.records} records, chain unbroken, in checkpoint {signed.number} of {signed.origin} signed "
        f"{signed.time}; {found.files} files as they were signed"
    )
