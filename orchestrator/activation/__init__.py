"""Which version of a definition takes new sagas, where two people decide that and not whoever deploys (ADR 67)."""
