"""The saga of `orchestrator bench steps`: three steps, one after the other. Only that bench loads it."""
