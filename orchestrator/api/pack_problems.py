"""Why there is no evidence pack, as rows of the table of problems: status, title, what it means, what to do."""

from __future__ import annotations

from collections.abc import Mapping

PACK_PROBLEMS: Mapping[str, tuple[int, str, str, str]] = {
    "not_sealed": (
        409,
        "Not signed yet",
        "The last records of this saga are not under a signed checkpoint yet.",
        "Wait some seconds and ask again. Where it lasts, look whether checkpoints are signed at all.",
    ),
    "no_checkpoint": (
        404,
        "No such checkpoint",
        "There is no checkpoint with this number, or it is older than the saga's last record.",
        "Leave the number out: the first checkpoint that covers the saga is taken.",
    ),
    "no_key": (
        409,
        "Nothing is signed here",
        "This installation has no key to sign evidence with.",
        "Set ORCHESTRATOR_EVIDENCE_KEY_FILE for the processes that serve HTTP, too.",
    ),
    "pack_too_large": (
        413,
        "Too large for one pack",
        "The saga, or those related to it, have more records than one pack holds.",
        "Take one pack for each saga.",
    ),
    "altered": (
        409,
        "The log does not hold",
        "What is stored is not what was written or signed; `detail` names the first place. No pack is made of it.",
        "Tell an administrator, and run `orchestrator audit verify`.",
    ),
}
