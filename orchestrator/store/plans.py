"""What the planner is told, by what a connection is for. Settings of a session, see `connections.py`."""

from __future__ import annotations

from collections.abc import Mapping

# Every hot statement looks up a few hundred keys, in tables of any size: an index, row by row, is always right. Left to
# itself the planner now and then reads a whole table instead (after a bulk load, with old statistics), and plans the
# same statement anew for every batch.
_PLANS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


# Lists have filters that mostly do not count: planned for the values at hand, those vanish. A page is some fifty rows,
# whatever they are joined with is looked up one by one.
_PAGE_PLANS = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
}

# Reports over whole tables: the planner knows best.
_REPORT_PLANS = {"jit": "off"}


def plans_of(role: str) -> Mapping[str, str]:
    """The settings of a pool: those of hot statements, unless it reads pages or whole tables."""
    return {"read": _PAGE_PLANS, "report": _REPORT_PLANS}.get(role, _PLANS)
