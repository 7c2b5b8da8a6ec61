"""Second looks: which decisions the page asks to check and confirm before they count.

Rules of this file
- Asked for is what the definition says by `confirm=`, and what is at or above ORCHESTRATOR_CONFIRM_AMOUNT, in any
  currency; beside that whatever sets something going that cannot be undone (deciding.py).
- An amount that nobody can tell, or in a currency that `confirm=` does not name, is as large as any.
"""

from __future__ import annotations

from decimal import Decimal

from orchestrator.api.views import TaskView
from orchestrator.kernel.graph import TaskNode, node_path
from orchestrator.pages.formats import decimal_of
from orchestrator.pages.previews import Case
from orchestrator.pages.subject import amount_of


def is_asked(case: Case, task: TaskView, above: int) -> bool:
    """Does this task take a second look, whatever its outcome leads to? `above`: the setting, 0 where there is none."""
    return by_definition(case, task) or _by_setting(task, above)


def by_definition(case: Case, task: TaskView) -> bool:
    """The definition that the saga runs on says so."""
    node = case.graph.nodes.get(node_path(task.activity)) if case.graph is not None else None
    if not isinstance(node, TaskNode) or not node.confirm:
        return False
    floors = {one["currency"]: Decimal(one["amount"]) for one in node.confirm if one}
    if len(floors) < len(node.confirm) or task.amount is None:
        return True
    floor = floors.get(task.amount["currency"])
    return floor is None or Decimal(task.amount["amount"]) >= floor


def _by_setting(task: TaskView, above: int) -> bool:
    amount = amount_of(task.shown, task.amount)
    value = decimal_of(amount.value) if amount is not None else None
    return bool(above) and value is not None and abs(value) >= above
