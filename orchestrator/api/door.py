"""The door for starts, as routes meet it: 429 with Retry-After, before anything is done.

Rules of this file
- A start is counted once, however many calls lead to it: who is inside the door is let through the next one.
- A start that was promised before (its message is committed, its process died) is owed, and is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from orchestrator.api.problems import ProblemError
from orchestrator.runtime.admission import Admission, TooMuchError

_inside: ContextVar[bool] = ContextVar("inside the door for starts", default=False)


@contextmanager
def starting(admission: Admission, *, promised: bool = False) -> Iterator[None]:
    """While inside, a start may be made. Raises ProblemError `too_many` where it must come again later."""
    if promised or _inside.get():
        yield
        return
    try:
        with admission.start():
            token = _inside.set(True)
            try:
                yield
            finally:
                _inside.reset(token)
    except TooMuchError as error:
        raise too_many(error) from None


def too_many(error: TooMuchError) -> ProblemError:
    """The answer to a start that is refused for now."""
    return ProblemError(
        "too_many",
        f"No new sagas now: {error}. Nothing was done. Send the same request again after Retry-After seconds.",
        facts={"signal": error.signal, "level": error.level, "limit": error.limit},
        headers={"Retry-After": str(error.retry_seconds)},
    )
