"""The saga of `orchestrator bench parked`: a person approves, then one step is done. Only that bench loads it."""
