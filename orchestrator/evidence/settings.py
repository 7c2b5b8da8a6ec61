"""Settings of evidence: which key signs checkpoints, how often, and where they are published.

Rules of this file
- Without a key nothing is signed, and without a place nobody outside the database knows: production refuses both.
- The signing key is never in the database, and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from orchestrator.evidence.keys import KeyRing, read_ring
from orchestrator.keyfiles import KeyFileError
from orchestrator.setting import number

DIRECTORY = "evidence"  # below data_dir, where the database lies there too
KEY_FILE, CHECKPOINT_FILE = "log.key", "checkpoints.txt"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[A-Za-z0-9._/-]{1,200}\Z")


class EvidenceSettings(BaseSettings):
    """Part of the settings of a process (`orchestrator.config.Settings`)."""

    evidence_key_file: str = Field(
        default="", description="File with the key that signs checkpoints; below it the public keys that did before."
    )
    evidence_key: str = Field(
        default="", repr=False, description="The same as text, from a secret store: keys with spaces between them."
    )
    evidence_origin: str = Field(
        default="orchestrator.local/log", description="The log's name, in a key that this process makes for itself."
    )
    evidence_seal_ms: Annotated[
        int, number(2_000, 0, 3_600_000, "How often new records are sealed into a signed checkpoint. 0: never.")
    ]
    evidence_records_max: Annotated[
        int, number(20_000, 256, 1_000_000, "Records that one checkpoint adds at most; more follow at once.")
    ]
    evidence_file: str = Field(
        default="", description="A file that checkpoints are appended to, where the database's owner cannot write."
    )
    evidence_topic: str = Field(default="", description="A topic of the broker that checkpoints are sent to.")
    evidence_url: str = Field(default="", description="Where checkpoints are POSTed; GET there gives the last one.")
    evidence_token: str = Field(default="", repr=False, description="Sent to evidence_url as bearer token.")
    evidence_attempt_ms: Annotated[int, number(10_000, 100, 50_000, "How long one attempt to publish may take.")]

    @model_validator(mode="after")
    def _evidence_fits_together(self) -> EvidenceSettings:  # noqa: N804 - in "after" mode pydantic passes the instance
        if self.evidence_key and self.evidence_key_file:
            raise ValueError("ORCHESTRATOR_EVIDENCE_KEY and ORCHESTRATOR_EVIDENCE_KEY_FILE: set one of them")
        if not _NAME.match(self.evidence_origin):
            raise ValueError("ORCHESTRATOR_EVIDENCE_ORIGIN must be a name like bank.example/log")
        url = urlsplit(self.evidence_url)
        if self.evidence_url and (url.scheme not in ("https", "http") or not url.hostname or url.username):
            raise ValueError("ORCHESTRATOR_EVIDENCE_URL must be https://host/path, without a password in it")
        if self.evidence_key:
            try:
                KeyRing.of(self.evidence_key.split())
            except KeyFileError as error:
                raise ValueError(f"ORCHESTRATOR_EVIDENCE_KEY: {error}") from None
        return self

    @property
    def has_key(self) -> bool:
        """A key is configured."""
        return bool(self.evidence_key or self.evidence_key_file)

    @property
    def has_place(self) -> bool:
        """Checkpoints go somewhere."""
        return bool(self.evidence_file or self.evidence_topic or self.evidence_url)

    def evidence_ring(self) -> KeyRing | None:
        """The keys, or None where there are none. Raises KeyFileError."""
        if self.evidence_key:
            return KeyRing.of(self.evidence_key.split())
        return read_ring(Path(self.evidence_key_file)) if self.evidence_key_file else None


def beside_database(data_dir: Path) -> dict[str, str]:
    """Where key and checkpoints lie on a laptop: with the embedded database, in the same hand."""
    directory = data_dir / DIRECTORY
    return {"evidence_key_file": str(directory / KEY_FILE), "evidence_file": str(directory / CHECKPOINT_FILE)}


def production_flaws(settings: EvidenceSettings, broker_is_kafka: bool) -> Iterator[tuple[str, str, str]]:
    """What of this is only safe on a laptop: setting, what is wrong, what to do."""
    if not settings.has_key:
        yield (
            "evidence_key_file",
            "is missing: nothing in the audit trail would be signed",
            "make a key with `orchestrator audit keys new`, and keep it away from the database",
        )
    if not settings.evidence_seal_ms:
        yield "evidence_seal_ms", "is 0: no checkpoint is ever signed", "set it to some seconds"
    if not settings.has_place:
        yield (
            "evidence_file",
            "is missing, like the topic and the URL: checkpoints would lie in the database alone",
            "name at least one place that the database's owner cannot write to",
        )
    if settings.evidence_topic and not broker_is_kafka:
        yield "evidence_topic", "is a topic of the log in the database itself", "use Kafka, a file or a URL"
    url = urlsplit(settings.evidence_url)
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        yield "evidence_url", "is not https: anybody in between could swallow checkpoints", "use its https address"
