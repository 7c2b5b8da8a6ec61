"""What a committed batch says about sagas: begun, ended, failed, undone, stuck, and how long steps and people took.

Rules of this file
- It reads what was just committed, in memory, once a batch; it never asks anything, and never fails a batch.
- A record is counted by the process that committed it, once. A process that dies between the commit and this line
  takes those counts with it: these are rates for people who watch. What must be exact is in the read models.
- A record that means nothing here costs one look into a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from orchestrator.kernel.state import State
from orchestrator.logs import about
from orchestrator.metrics import names
from orchestrator.metrics.figures import Figures
from orchestrator.store.contract import Append, BatchWrite, Head, NewRecord
from orchestrator.tracing.words import low as step_name

US = 1_000_000

log = structlog.get_logger("orchestrator.metrics")


class Decided(Protocol):
    """One saga of the batch after its turns."""

    @property
    def state(self) -> State | None:
        """Its state now."""

    @property
    def trace(self) -> str:
        """The trace that it belongs to, with its flags: `<trace id>-<flags>`."""


Count = Callable[[Append, NewRecord, State, int], None]


class SagaFigures:
    """Counts committed batches. Give `committed` to the coordinator."""

    def __init__(self, figures: Figures) -> None:
        self._started = figures.counter(names.STARTED)
        self._ended = figures.counter(names.ENDED)
        self._turned_back = figures.counter(names.TURNED_BACK)
        self._took = figures.histogram(names.DURATION)
        self._step_took = figures.histogram(names.STEP_DURATION)
        self._step_failures = figures.counter(names.STEP_FAILURES)
        self._undos = figures.counter(names.UNDOS)
        self._stops = figures.counter(names.STOPS)
        self._acts = figures.counter(names.OPERATOR_ACTS)
        self._opened = figures.counter(names.TASKS_OPENED)
        self._closed = figures.counter(names.TASKS_CLOSED)
        self._escalated = figures.counter(names.TASKS_ESCALATED)
        self._task_took = figures.histogram(names.TASK_DURATION)
        self._batch_size = figures.histogram(names.BATCH_SIZE)
        self._early = figures.counter(names.EARLY_EVENTS)
        self._failing = False
        self._count: dict[str, Count] = {
            "saga.started": self._saga_started,
            "saga.completed": self._saga_ended,
            "saga.compensated": self._saga_ended,
            "saga.tombstoned": self._saga_ended,
            "compensation.started": self._saga_turned_back,
            "saga.stuck": self._saga_stuck,
            "step.succeeded": self._step_answered,
            "step.refused": self._step_answered,
            "step.failed": self._step_failed,
            "step.timed_out": self._step_failed,
            "undo.succeeded": self._undo,
            "undo.failed": self._undo,
            "task.opened": self._task_opened,
            "task.decided": self._task_closed,
            "task.expired": self._task_closed,
            "task.escalated": self._task_escalated,
            **{f"operator.{act}": self._act for act in _ACTS},
            "undo.taken_over": self._act,
        }

    def committed(
        self, streams: Mapping[str, Decided], write: BatchWrite, left: Mapping[str, Head], inputs: int
    ) -> None:
        """Counts one committed batch. `left`: the heads as it left them."""
        if not inputs:
            return
        try:
            self._batch_size.observe((), inputs)
            if write.early:
                self._early.add((), len(write.early))
            self._appends(write.appends, streams, left)
        except Exception:
            if not self._failing:
                log.exception("a batch is not counted")
            self._failing = True

    def _appends(self, appends: Sequence[Append], streams: Mapping[str, Decided], left: Mapping[str, Head]) -> None:
        count = self._count
        for append in appends:
            state = None
            for record in append.records:
                found = count.get(record.type)
                if found is not None:
                    state = state or streams[append.saga_id].state
                    assert state is not None
                    found(append, record, state, left[append.saga_id].recorded_at)
                    if record.type == "saga.stuck":  # nobody else says so at that moment, and somebody has to come
                        where = {"saga": append.name, "place": record.data["place"], "cause": record.data["cause"]}
                        log.warning(
                            "a saga is stuck", **where, **about(append.saga_id, streams[append.saga_id].trace[:32])
                        )

    # --- one record ---------------------------------------------------------------------------------------------------

    def _saga_started(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._started.add((append.name,))

    def _saga_ended(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        phase = record.type[5:]
        outcome = str(record.data.get("outcome", phase))
        self._ended.add((append.name, phase, outcome))
        if state.started_at:
            self._took.observe((append.name, phase), _seconds(state.started_at, at))

    def _saga_turned_back(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._turned_back.add((append.name, str(record.data["failure"].get("kind", ""))))

    def _saga_stuck(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._stops.add((append.name, str(record.data["cause"])))

    def _step_answered(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        outcome = "ok" if record.type == "step.succeeded" else "refused"
        found = state.activities.get(record.activity)
        if found is not None and found.requested_at:
            took = _seconds(found.requested_at, at)
            self._step_took.observe((append.name, step_name(record.activity), outcome), took)

    def _step_failed(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._step_failures.add((append.name, step_name(record.activity), record.type[5:]))

    def _undo(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._undos.add((append.name, step_name(record.activity), record.type[5:]))

    def _task_opened(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._opened.add((append.name, step_name(record.activity)))

    def _task_closed(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        values = (append.name, step_name(record.activity), record.type[5:])
        self._closed.add(values)
        found = state.activities.get(record.activity)
        if found is not None and found.task is not None:
            self._task_took.observe(values, _seconds(found.task.opened_at, at))

    def _task_escalated(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._escalated.add((append.name, step_name(record.activity)))

    def _act(self, append: Append, record: NewRecord, state: State, at: int) -> None:
        self._acts.add((append.name, record.type.partition(".")[2]))


_ACTS = ("proposed", "retried", "skipped", "completed_by_hand", "gave_back", "settled")


def _seconds(began_us: int, ended_us: int) -> float:
    return max(0, ended_us - began_us) / US


def processed(figures: Figures, system: str, group: str) -> Callable[[Sequence[Any], float], None]:
    """What intake calls for a batch that is committed: its messages, and how long it took, seconds."""
    took = figures.histogram(names.PROCESS_DURATION)

    def observe(messages: Sequence[Any], seconds: float) -> None:
        topics: dict[str, int] = {}
        for message in messages:
            topics[message.topic] = topics.get(message.topic, 0) + 1
        for topic, number in topics.items():
            took.observe((system, "process", "process", topic, group, ""), seconds, number)

    return observe
