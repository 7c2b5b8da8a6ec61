"""Why a version is not, or does not become, active, as rows of the table of problems."""

from __future__ import annotations

from collections.abc import Mapping

ACTIVATION_PROBLEMS: Mapping[str, tuple[int, str, str, str]] = {
    "not_active": (
        409,
        "Not active",
        "No version of this saga takes new sagas yet: that takes one who asks and another who agrees.",
        "Ask on the page of the version, or with `orchestrator definition activate`; then start again.",
    ),
    "not_everywhere": (
        409,
        "Not everywhere",
        "Some running process has not got the version that is to become active; `facts` names it.",
        "Deploy the version to all processes, then try again.",
    ),
    "overtaken": (
        409,
        "Overtaken",
        "Another version takes new sagas by now than the one that this request was compared with.",
        "Reject the request, and ask again.",
    ),
    "by_deployment": (
        409,
        "Active by deployment",
        "Versions of this saga take new sagas as soon as a process with them starts: there is nothing to ask for.",
        "Set ORCHESTRATOR_ACTIVATION=approval, or say `activation=` in the definition.",
    ),
    "active_already": (409, "Active already", "This version takes new sagas now.", "Nothing is left to do."),
}
