"""evolve with every record type that there is: importing this module registers them all."""

from orchestrator.kernel import evolve_back, evolve_people, evolve_tasks
from orchestrator.kernel.evolve import FOLDS, evolve

__all__ = ["FOLDS", "evolve", "evolve_back", "evolve_people", "evolve_tasks"]
