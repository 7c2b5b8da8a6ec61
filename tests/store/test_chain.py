"""The hash chain: any language can recompute it, and no single change of a stream goes unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.messages.canonical import NotCanonicalError, canonical_bytes
from orchestrator.store.chain import NO_HASH, ChainError, data_bytes, opened, seal, verify
from orchestrator.store.contract import NewRecord, StoredRecord

LENGTH = 60

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-1e15, 1e15)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=12,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def stream(length: int = LENGTH, saga_id: str = "saga-1", tenant: str = "main") -> list[StoredRecord]:
    """A valid stream; two records a turn."""
    records: list[StoredRecord] = []
    for turn in range(length // 2):
        new = [NewRecord("x", f"step{turn}", {"n": turn, "of": place}, "system", f"m-{turn}") for place in range(2)]
        bodies, hashes = seal(
            new,
            [data_bytes(record.data) for record in new],
            tenant=tenant,
            saga_id=saga_id,
            version=len(records),
            previous=records[-1].hash if records else b"",
            recorded_at=1_000 + turn,
        )
        records += [
            opened(saga_id, len(records) + place, body, hash_)
            for place, (body, hash_) in enumerate(zip(bodies, hashes, strict=True), start=1)
        ]
    return records


class TestSealing:
    @given(st.dictionaries(texts, plain, max_size=5), texts, texts, st.integers(1, 2**40))
    @settings(max_examples=300, deadline=None)
    def test_a_sealed_record_is_canonical_json_of_its_fields(
        self, data: dict[str, object], text: str, other: str, recorded_at: int
    ) -> None:
        """The quick way writes exactly the bytes that RFC 8785 prescribes, which another language will recompute."""
        new = NewRecord(text, other, data, other, text, other)
        (body,), (hash_,) = seal(
            [new],
            [data_bytes(data)],
            tenant=other,
            saga_id=text,
            version=41,
            previous=b"\x01" * 32,
            recorded_at=recorded_at,
        )
        assert body == canonical_bytes(
            {
                "tenant": other,
                "saga": text,
                "version": 42,
                "type": text,
                "activity": other,
                "data": data,
                "actor": other,
                "causation": text,
                "correlation": text,
                "traceparent": other,
                "recorded_at": recorded_at,
                "previous": "01" * 32,
            }
        )
        assert hash_ == hashlib.sha256(body).digest()

    @pytest.mark.parametrize(
        "value", [1.0, 1e21, -0.0, "ñ", {"\uffff": 1, "😀": 2}, [[{"x": 0.5}]], Decimal("1.50"), (1, 2)]
    )
    def test_data_that_needs_care_gets_it(self, value: object) -> None:
        """Floats, keys outside ASCII and other types are where a fast serialiser would differ."""
        assert data_bytes({"value": value}) == canonical_bytes({"value": value})

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, {1, 2}, object()])
    def test_data_without_a_canonical_form_is_refused_at_any_depth(self, value: object) -> None:
        """Before anything is written: not a number would silently become null."""
        for data in ({"value": value}, {"list": [1, {"deep": value}]}):
            with pytest.raises(NotCanonicalError):
                data_bytes(data)

    def test_a_text_that_json_cannot_hold_is_made_visible(self) -> None:
        """A lone surrogate in an actor's name must not stop a batch."""
        new = NewRecord("x", "", {}, "person:\ud800", "m-1")
        (body,), _ = seal([new], [b"{}"], tenant="main", saga_id="s", version=0, previous=b"", recorded_at=1)
        assert opened("s", 1, body, b"").actor == "person:\\ud800"

    def test_the_first_record_follows_32_zero_bytes(self) -> None:
        """So that a stream cannot be cut off at its beginning."""
        assert stream(2)[0].previous_hash == NO_HASH == bytes(32)


def changes_of_one_record(streams: list[StoredRecord]) -> Iterator[tuple[int, str, list[StoredRecord]]]:
    """Every way to change one row: first version that is not as it was written, what was done, the stream after it."""
    other = stream(saga_id="saga-2")
    for place, record in enumerate(streams):
        version = place + 1

        def changed(row: StoredRecord, at: int = place) -> list[StoredRecord]:
            return [*streams[:at], row, *streams[at + 1 :]]

        for position in (0, len(record.body) // 2, len(record.body) - 1):
            body = bytearray(record.body)
            body[position] ^= 1
            yield version, f"byte {position} of the body", changed(replace(record, body=bytes(body)))
        yield version, "hash", changed(replace(record, hash=bytes([record.hash[0] ^ 1]) + record.hash[1:]))
        forged = record.body.replace(b'"n":', b'"m":')
        yield (
            version + (version < LENGTH),  # the record itself agrees with its new hash; its successor does not
            "body with a new hash",
            changed(opened(record.saga_id, version, forged, hashlib.sha256(forged).digest())),
        )
        for name, value in {"version": version + 1, "saga_id": "saga-2", "data": {}, "type": "y", "actor": "x"}.items():
            yield version, name, changed(replace(record, **{name: value}))  # type: ignore[arg-type]
        yield version, "another saga's record", changed(other[place])
        yield version, "removed", streams[:place] + streams[version:]
        yield version + 1, "doubled", [*streams[:version], record, *streams[version:]]
        if version < LENGTH:
            yield version, "swapped", [*streams[:place], streams[version], record, *streams[version + 1 :]]


class TestVerifying:
    def test_an_untouched_stream_is_whole(self) -> None:
        """With and without knowing its head."""
        records = stream()
        assert verify(records) is None
        assert verify(records, head_version=LENGTH, head_hash=records[-1].hash) is None
        assert verify([], head_version=0) is None

    def test_every_change_of_one_row_is_found_and_named(self) -> None:
        """All rows, one after the other; the head row stands as it was."""
        records = stream()
        tried = 0
        for version, what, tampered in changes_of_one_record(records):
            flaw = verify(tampered, saga_id="saga-1", head_version=LENGTH, head_hash=records[-1].hash)
            assert flaw is not None, f"record {version}: {what} went unnoticed"
            assert flaw.version == version, f"record {version}: {what}, but {flaw}"
            tried += 1
        assert tried > LENGTH * 12

    def test_a_tail_that_was_cut_off_needs_a_head_from_elsewhere(self) -> None:
        """Which is why checkpoints leave the database."""
        records = stream()
        assert verify(records[:-1]) is None
        flaw = verify(records[:-1], head_version=LENGTH)
        assert str(flaw) == "saga saga-1, record 60: the head says version 60, the stream ends at 59"
        assert verify([], head_version=3) is not None

    def test_time_that_runs_backwards_is_a_flaw(self) -> None:
        """Also in a chain that was computed anew from there on."""
        first = stream(2)
        bodies, hashes = seal(
            [NewRecord("x", "", {}, "system", "m")],
            [b"{}"],
            tenant="main",
            saga_id="saga-1",
            version=2,
            previous=first[-1].hash,
            recorded_at=1,
        )
        flaw = verify([*first, opened("saga-1", 3, bodies[0], hashes[0])])
        assert flaw is not None
        assert "before its predecessor's 1000" in str(flaw)

    @pytest.mark.parametrize(
        "spelling", [lambda body: body.replace(b":", b": ", 1), lambda body: body[:-1] + b',"x":1}']
    )
    def test_another_spelling_of_the_same_record_is_a_flaw(self, spelling: Callable[[bytes], bytes]) -> None:
        """Even with a fitting hash: there is one form, or two people could hold different proofs of one record."""
        first, second = stream(2)
        body = spelling(second.body)
        flaw = verify([first, opened("saga-1", 2, body, hashlib.sha256(body).digest())])
        assert flaw is not None
        assert (flaw.version, flaw.reason) == (2, "its bytes are not the canonical form of a record")

    def test_bytes_that_are_no_record_are_named(self) -> None:
        """Whoever reads them gets a report, not a KeyError."""
        for body in (b"", b"[]", b'{"type":"x"}', b"\xff", b'{"previous":"zz"}'):
            with pytest.raises(ChainError, match="saga s, record 7: the stored bytes are no record"):
                opened("s", 7, body, b"")
