"""Contracts by bounded context: one module each, importable by every service without the orchestrator's runtime."""
