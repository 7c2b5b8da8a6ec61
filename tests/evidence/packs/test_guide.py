"""The guide is a walked path: what it tells an auditor and a receiver to type is typed here, at a running product."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.walked_path import blocks
from tests.evidence.packs.logs import VKEY, SignedOffice, seal_all

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[3]


async def test_the_guide_can_be_walked(office: SignedOffice, tmp_path: Path) -> None:
    """Each command ends as the guide says, in one shell after the other, and prints what the guide shows."""
    await office.product.begin("auto", key="TRF-88", amount="6000")
    await seal_all(office.sealer)
    command = tmp_path / "bin" / "orchestrator"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m orchestrator "$@"\n')
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")} | {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "LOG_KEY": VKEY,
        "ORCHESTRATOR_API_URL": office.product.url, "ORCHESTRATOR_ACTOR": "vera", "ORCHESTRATOR_ACTOR_ROLES": "auditor",
    }  # fmt: skip
    folder, output, walked = tmp_path / "desk", "", 0
    folder.mkdir()
    for block in blocks((ROOT / "docs" / "guides" / "evidence-packs.md").read_text()):
        if block.language == "text":
            for line in block.body.splitlines():
                for part in line.split("..."):
                    assert part.strip() in output, f"line {block.line}: {part!r} is not in {output!r}"
            continue
        expected = next((int(word[5:]) for word in block.words if word.startswith("exit=")), 0)
        script = f"{block.body}\npwd > {tmp_path}/where\n" if not expected else block.body
        done = await asyncio.to_thread(
            subprocess.run, ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert done.returncode == expected, f"line {block.line}: exit {done.returncode}\n{output}"
        if not expected:
            folder = Path((tmp_path / "where").read_text().strip())
        walked += 1
    assert walked == 5
