"""The command line. `main` is the entry point of the installed command."""

from orchestrator.cli.main import main

__all__ = ["main"]
