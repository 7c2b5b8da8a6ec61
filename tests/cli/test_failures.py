"""Every verb's failure path: an exit code that says what kind, an error that says what next, and never a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from orchestrator.cli.main import app, run
from tests import forking

# One failing command line per verb, and its exit code. `{tmp}` is an empty directory.
FAILURES: dict[str, tuple[list[str], int]] = {
    "demo": (["--data-dir", "/proc/nothing", "--once"], 2),
    "init": (["Not A Name"], 2),
    "serve": (["--roles", "nonsense"], 2),
    "migrate": ([], 7),
    "check": ([], 6),
    "graph": (["nothing"], 3),
    "simulate": (["nothing"], 3),
    "emit": (["OrderPlaced", "--example"], 7),
    "explain": (["ORC999"], 3),
    "version": (["--nonsense"], 2),
    "saga list": ([], 7),
    "saga show": (["x"], 7),
    "saga timeline": (["x"], 7),
    "saga undo-plan": (["x"], 7),
    "saga cancel": (["x"], 2),
    "saga retry": (["x", "--reason", "r"], 7),
    "saga take-over": (["x", "--reason", "r"], 7),
    "saga give-back": (["x"], 2),
    "saga skip": (["x", "--reason", "r"], 7),
    "saga complete": (["x", "--reason", "r", "--data", "{"], 2),
    "saga settle": (["x", "--reason", "r"], 2),
    "task list": ([], 7),
    "task show": (["x"], 7),
    "task approve": (["x", "--reason", "r"], 2),
    "task reject": (["x", "--reason", "r", "--confirm", "0" * 64], 7),
    "task claim": (["x"], 7),
    "task release": (["x"], 7),
    "task delegate": (["x", "--to", "maria"], 7),
    "task reassign": (["x", "--to", "maria", "--reason", "r"], 2),
    "task comment": (["x", "hello"], 7),
    "task attach": (["x", "https://docs.example/", "--title", "t"], 7),
    "task draft": (["x", "--form", "{"], 2),
    "definition list": ([], 7),
    "definition show": (["x"], 7),
    "definition diff": (["x", "1", "0"], 2),
    "definition preflight": (["x", "1", "2"], 7),
    "definition activate": (["x", "2"], 2),
    "subject erase": (["x", "--reason", "r"], 2),
    "subject confirm": (["ER-7", "--yes"], 7),
    "subject hold": (["x"], 2),
    "subject release": (["x"], 7),
    "subject list": ([], 7),
    "vault init": (["--file", "/proc/nothing/vault.keys"], 2),
    "vault check": (["--file", "{tmp}/none"], 2),
    "vault rotate": (["--file", "{tmp}/none"], 2),
    "letter list": ([], 7),
    "letter show": (["0"], 2),
    "letter redrive": (["1", "--reason", "r"], 7),
    "key create": (["billing", "--capacity", "boss"], 2),
    "key list": ([], 7),
    "key revoke": (["x"], 2),
    "user bar": (["x"], 2),
    "user admit": (["x"], 7),
    "user barred": ([], 7),
    "user add": (["x"], 2),
    "user list": ([], 7),
    "user remove": (["x"], 7),
    "notice list": ([], 7),
    "notice show": (["0"], 2),
    "notice retry": (["1"], 2),
    "notice contacts": ([], 7),
    "notice contact": (["person:maria", "maria@bank.example"], 7),
    "audit search": ([], 7),
    "audit export": ([], 7),
    "audit verify": (["--since", "yesterday"], 2),
    "audit log": (["--out", "/proc/nothing/log"], 1),
    "audit checkpoint": ([], 7),
    "audit accept": (["file", "--reason", "r"], 2),
    "audit allow-start": (["--reason", "r"], 2),
    "audit keys new": (["--out", "{tmp}/key", "--name", "two words"], 2),
    "audit keys show": ([], 2),
    "audit keys rotate": (["/proc/nothing/key"], 2),
    "audit pack": (["--saga", "x"], 7),
    "audit verify-pack": (["nothing.zip"], 3),
    "sla report": ([], 7),
    "traces show": (["nothing"], 7),
    "traces emit": (["--saga", "x"], 2),
    "projection list": ([], 7),
    "projection rebuild": (["nothing", "--yes"], 3),
    "projection compare": (["nothing"], 3),
    "live": ([], 2),
    "bench orders": (["--concurrency", "many"], 2),
    "bench steps": (["--concurrency", "0"], 2),
    "bench limit": (["--sagas", "0"], 2),
    "bench parked": (["--wakes", "0"], 2),
    "bench traces": (["--rate", "-1"], 2),
    "bench sealing": (["--rate", "-1"], 2),
    "bench grown": (["--stored", "1"], 2),
}


def verbs(command: Any, prefix: str = "") -> Iterator[str]:
    """All verbs that the command line has."""
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from verbs(found, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def environment(**more: str) -> dict[str, str]:
    """An environment in which nothing answers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return kept | {
        "ORCHESTRATOR_API_URL": "http://127.0.0.1:9",
        "ORCHESTRATOR_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "ORCHESTRATOR_SAGAS": "sagas",
        "NO_COLOR": "1",
        **more,
    }


def test_every_verb_has_a_failure_here() -> None:
    """A new verb must bring its failure along."""
    assert sorted(verbs(typer.main.get_command(app))) == sorted(FAILURES)


@pytest.mark.parametrize("verb", sorted(FAILURES))
def test_a_verb_that_fails_says_so(verb: str, tmp_path: Path) -> None:
    """As the shell sees it: exit code, an error on stderr with the next step, nothing on stdout, no traceback."""
    arguments, expected = FAILURES[verb]
    more = {"ORCHESTRATOR_SAGAS": "no_such_module"} if verb == "check" else {}
    command = [part.replace("{tmp}", str(tmp_path)) for part in (*verb.split(), *arguments)]
    done = forking.run("orchestrator", *command, env=environment(**more))
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == expected, said
    assert "Traceback" not in said
    assert "site-packages" not in said
    assert done.stderr.strip() or verb == "check"
    if verb != "check":
        assert done.stdout == ""


@pytest.mark.parametrize(("arguments", "code"), [(["saga", "list"], 7), (["saga", "cancel", "x"], 2)])
def test_with_json_an_error_is_json_on_stderr(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a script reads the next step too."""
    monkeypatch.setenv("ORCHESTRATOR_API_URL", "http://127.0.0.1:9")
    assert run([*arguments, "--json"]) == code
    captured = capsys.readouterr()
    error = json.loads(captured.err)
    assert (captured.out, error["exitCode"]) == ("", code)
    assert error["do"]


def test_a_bug_is_one_line_unless_somebody_debugs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever types a command is not the one who reads tracebacks."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("orchestrator.cli.client.Api.pages", broken)
    assert run(["saga", "list"]) == 1
    assert capsys.readouterr().err.splitlines()[0] == "error: ZeroDivisionError: a bug"
    monkeypatch.setenv("ORCHESTRATOR_DEBUG", "1")
    assert run(["saga", "list"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every shell expects."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.cli.client.Api.pages", interrupted)
    assert run(["saga", "list"]) == 130


OTHER_PROGRAM = """
import http.server
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_another_program_on_the_port_is_recognised(tmp_path: Path) -> None:
    """An answer that is not ours is no success."""
    command = [sys.executable, "-c", OTHER_PROGRAM]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path
    ) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", "saga", "list"],
            env=environment(ORCHESTRATOR_API_URL=url),
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        server.terminate()
    assert (done.returncode, "another program" in done.stderr) == (7, True), done.stderr


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is where people look for it."""
    assert run(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "0 done" in said
    assert "130 interrupted" in said


def test_a_misspelt_setting_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is guessed, nothing ignored."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URI", "x")
    assert run(["check"]) == 2
    assert "ORCHESTRATOR_DATABASE_URL" in capsys.readouterr().err


def test_a_second_persons_evidence_answers_the_first_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the record that got stuck: who confirms, confirms what the first person has said."""
    place = {
        "place": "?pay",
        "version": 4,
        "reason": "unknown",
        "proposal": {"version": 9, "by": "ann", "act": "settle"},
    }
    detail = {"saga": {"sagaId": "s"}, "stuckPlaces": [place], "handedPlaces": []}
    monkeypatch.setattr("orchestrator.cli.client.Api.get", lambda *_: detail)
    assert run(["saga", "settle", "s", "--outcome", "done", "--reason", "r", "--yes"]) == 2
    assert "--version 9" in capsys.readouterr().err
    assert run(["saga", "retry", "s", "--reason", "r", "--yes"]) == 2
    assert "--version 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("terminal", "typed", "yes", "code"),
    [
        (True, "y", False, 0),
        (True, "YES", False, 0),
        (True, "", False, 1),
        (True, "n", False, 1),
        (False, "y", False, 2),
        (False, "", True, 0),
    ],
)
def test_a_writing_verb_asks_where_somebody_can_answer(
    terminal: bool, typed: str, yes: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--yes` for scripts, a question on a terminal, and never a wait for an answer that cannot come."""
    typing = io.StringIO(f"{typed}\n")
    monkeypatch.setattr(typing, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdin", typing)
    posted: list[str] = []
    letter = {"id": 1, "reason": "invalid"}
    monkeypatch.setattr("orchestrator.cli.client.Api.get", lambda *_: letter)

    def post(_: object, path: str, body: object) -> dict[str, str]:
        posted.append(path)
        return {"fate": "applied"}

    monkeypatch.setattr("orchestrator.cli.client.Api.post", post)
    assert run(["letter", "redrive", "1", "--reason", "r", *(["--yes"] if yes else [])]) == code
    assert bool(posted) == (code == 0)
