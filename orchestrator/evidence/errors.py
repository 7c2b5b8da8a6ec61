"""What goes wrong with evidence, by who must act: the network, an operator, or an auditor."""

from __future__ import annotations


class EvidenceError(Exception):
    """The log, its checkpoints and what was published of them do not fit together. Nothing mends that by itself."""

    retriable = False


class LogBehindError(EvidenceError):
    """This database is older than a checkpoint that was published: records are missing."""


class LogContradictsError(EvidenceError):
    """This database and a published checkpoint tell different stories of the same records."""


class PlaceAwayError(Exception):
    """A place for checkpoints does not answer, or not as it should: try again later."""

    retriable = True
