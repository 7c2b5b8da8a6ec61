"""Definitions: the words of a flow, and the compiler that turns a flow into a graph. Pure.

Rules of this package
- It imports messages, calendars and the kernel's graph, nothing else of the product.
- Authors write words (`words`, `steps`, `tasks`, `waits`, `forks`, `loops`); `saga` compiles them on the spot.
- The way of a definition: `layout` (paths) → `roles` (functions) → `results` → `walk` (what can happen) → `plans` and
  `checks` (is it right?) → `emit` (graph, JSON, hash) and `program` (functions and codecs).
- All mistakes of one saga are reported at once, as findings with a code; `errors/` explains each code.
"""

from orchestrator.definition.findings import DefinitionError, Finding, explain, explanations
from orchestrator.definition.forks import choose, parallel, when
from orchestrator.definition.loops import for_each, repeat
from orchestrator.definition.saga import Saga
from orchestrator.definition.steps import Call, Retry, Step, call, pivot, step
from orchestrator.definition.tasks import Escalate, Limit, Task, task
from orchestrator.definition.waits import Wait, scope, wait_for
from orchestrator.definition.words import WorkingTime, compute, delay, end, enter, fail, keep, leave, publish

__all__ = [
    "Call", "DefinitionError", "Escalate", "Finding", "Limit", "Retry", "Saga", "Step", "Task", "Wait", "WorkingTime",
    "call", "choose", "compute", "delay", "end", "enter", "explain", "explanations", "fail", "for_each", "keep",
    "leave", "parallel", "pivot", "publish", "repeat", "scope", "step", "task", "wait_for", "when",
]  # fmt: skip
