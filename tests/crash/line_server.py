"""Processes for the line sweep without the price of an interpreter each: forked from one that has everything imported.

    python -m tests.crash.line_server DATABASE_URL BROKER_URL

Rules of this file
- One request per line on stdin: {"do": "sweep" or "finish", "run", "unit"}, for a sweep also "place" and "nth"; one
  answer per line on stdout: how the process ended (its exit code, or minus the signal) and what it said before.
- This process never makes an event loop, a thread or a connection: whatever is forked from it begins like a new one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any

import orchestrator.broker.kafka
import orchestrator.broker.postgres  # noqa: F401 - else imported late, in each process
from orchestrator import logs
from tests.crash import case_units, line_units


def serve(url: str, broker: str) -> None:
    """Answers requests until stdin ends."""
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        assert threading.active_count() == 1
        request = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            _become(url, broker, request, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            text = said.read().decode()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status), "said": text.splitlines()}) + "\n")
        sys.stdout.flush()


def _become(url: str, broker: str, request: dict[str, Any], writing: int) -> None:
    """The forked process. Never returns."""
    os.dup2(2, 1)  # answers are the server's alone
    logs.configure("error")
    signal.alarm(line_units.ALARM_SECONDS)

    def tell(text: str) -> None:
        os.write(writing, f"{text}\n".encode())

    kit = case_units.KIT if request["unit"] in case_units.UNITS else line_units.KIT
    try:
        if request["do"] == "sweep":
            asyncio.run(line_units.sweep(kit, url, broker, request, tell))
        else:
            asyncio.run(line_units.finish(kit, url, broker, request["run"], tell))
    except BaseException:
        tell(traceback.format_exc())
    os._exit(3)


if __name__ == "__main__":
    serve(*sys.argv[1:3])
