"""Freed memory stays in the process where the C library can be told so."""

from __future__ import annotations

import platform

from orchestrator.store.memory import keep_freed_memory


def test_glibc_understands_and_everybody_else_is_left_alone() -> None:
    """It is a matter of speed only, so where it cannot be had nothing happens."""
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")
    assert keep_freed_memory() is keep_freed_memory()
