"""The one import of saga authors: contract words and flow words.

>>> from orchestrator import Saga, step, task                                               # doctest: +SKIP

Operators, services and tests use the packages below by name (`orchestrator.testing`, `orchestrator.runtime`, …).
What is listed here is pinned by a test: a new word is a decision.
"""

from orchestrator.definition import (
    Escalate,
    Limit,
    Retry,
    Saga,
    WorkingTime,
    call,
    choose,
    compute,
    delay,
    end,
    enter,
    fail,
    for_each,
    keep,
    leave,
    parallel,
    pivot,
    publish,
    repeat,
    scope,
    step,
    task,
    wait_for,
    when,
)
from orchestrator.messages import (
    Approval,
    Command,
    Context,
    CustomerView,
    Decision,
    Done,
    Event,
    Failure,
    Form,
    Key,
    Money,
    Person,
    Personal,
    Refused,
    Reply,
    Role,
    Verdict,
)

__all__ = [
    "Approval", "Command", "Context", "CustomerView", "Decision", "Done", "Escalate", "Event", "Failure", "Form", "Key",
    "Limit", "Money", "Person", "Personal", "Refused", "Reply", "Retry", "Role", "Saga", "Verdict", "WorkingTime",
    "call", "choose", "compute", "delay", "end", "enter", "fail", "for_each", "keep", "leave", "parallel", "pivot",
    "publish", "repeat", "scope", "step", "task", "wait_for", "when",
]  # fmt: skip
