"""The vault at work: which key seals what a batch writes, and what opens what it reads.

Rules of this file
- Inside a batch nothing waits: `learn` and `prepare` ask for keys before, everything else only looks at what is there.
- Whose a saga is: the customer of its start message; else whoever sealed that message; else nobody but the saga itself.
  An event that no saga has yet: its customer, else its own business key.
- A saga whose contracts mark nothing is left alone; texts that look sealed are made harmless there, so that nobody has
  something opened by sending it in.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel.graph import StepNode, node_path
from orchestrator.kernel.inputs import Answer, Arrived, Input, Start
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.messages.contract import Event
from orchestrator.messages.personal import PREFIX, TOKEN, ErasedText, broken, key_ids, sealing, subject_key
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.work import DomainEvent, Item, Opened, SagaBegin
from orchestrator.store.contract import DeadLetter, EarlyEvent, StoredRecord
from orchestrator.vault.keys import Broken, BrokenKeyError, Erased, Keys, Subject
from orchestrator.vault.letters import Letters
from orchestrator.vault.marks import is_marked
from orchestrator.vault.proofs import Prover
from orchestrator.vault.sealer import Person, Sealer, opened
from orchestrator.vault.tokens import DataKey, SealedError, event_scope, saga_scope

CustomerOf = Callable[[str, Mapping[str, Any]], str]
FORM = "sealed-form"
_BYTES = PREFIX.encode()
_KEPT = frozenset({"command", "event"})  # what the state keeps sealed: see sealer.py


class Prepared:
    """The keys of one batch: `sagas` by id, `early` by event id.

    `broken`, `broken_early`: those whose key does not open, with the reason; nothing of them may be written.
    """

    def __init__(self) -> None:
        self.sagas: dict[str, Sealer] = {}
        self.early: dict[str, Sealer] = {}
        self.broken: dict[str, str] = {}
        self.broken_early: dict[str, str] = {}


class Vault:
    """One per process. `customer_of`: the customer in a start message, "" for none."""

    def __init__(self, keys: Keys, catalog: Catalog, customer_of: CustomerOf) -> None:
        self.keys = keys
        self._catalog = catalog
        self._customer_of = customer_of
        self._marked = {contract.wire_name for contract in catalog.registry if is_marked(contract)}
        self._sagas = {
            name for (name, _), saga in catalog.sagas.items() if any(is_marked(one) for one in saga.contracts)
        }
        self.letters = Letters(keys)
        self.prover = Prover(keys.wrapping.index)

    # --- what comes in ------------------------------------------------------------------------------------------------

    async def learn(self, values: Iterable[bytes | None], ids: Iterable[str] = ()) -> None:
        """Asks for the keys of everything that is sealed in these messages, and for keys by their ids."""
        wanted = set(ids)
        for value in values:
            if value is not None and _BYTES in value:
                wanted |= key_ids(value.decode(errors="replace"))
        if wanted:
            await self.keys.by_id(wanted)

    def digest(self, value: bytes) -> bytes:
        """What tells two bodies of one message apart, and tells nobody else anything about them."""
        return hmac.digest(self.keys.wrapping.index, value, "sha256")

    def open_message(self, value: bytes, tenant: str) -> tuple[bytes, Opened]:
        """The data of a tenant's message with everything opened. Raises SealedError where that cannot be."""
        found: list[str] = []
        tokens: list[str] = []

        def one(token: str) -> str:
            tokens.append(token)
            found.append(self.open(token, tenant=tenant))
            return found[-1]

        try:
            body = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value, Opened()
        plain = opened(body, one)
        matches = [match for token in tokens if (match := TOKEN.fullmatch(token))]
        about = Opened(
            keys=tuple(dict.fromkeys(match[1] for match in matches)),
            scopes=frozenset(match[2] for match in matches),
            texts=tuple(found),
        )
        return orjson.dumps(plain), about

    def is_of(self, about: Opened, saga_id: str) -> bool:
        """Was everything that was opened in a message sealed for this saga?"""
        return about.scopes <= {saga_scope(saga_id)}

    def sealer_of(self, key_id: str, saga_id: str, tenant: str) -> Sealer | None:
        """What seals for a saga under a key that was learned; None where that key is no more, or is not theirs."""
        key = self.keys.at_hand(key_id)
        if not isinstance(key, DataKey) or key.tenant != tenant:
            return None
        return Sealer(Person(key_id), key, saga_scope(saga_id))

    async def ask(self, messages: Sequence[IncomingMessage]) -> None:
        """Asks for the keys of commands, for the participants of this process. Raises StoreError."""
        await self.learn((each.value for each in messages), {subject_key(each.headers) for each in messages} - {""})

    def refusal(self, message: IncomingMessage) -> str:
        """None of them is refused here: whoever has the key file can open everything."""
        return ""

    def open(self, token: str, scope: str = "", *, tenant: str = "") -> str:
        """One sealed value, by a key that was learned. `tenant`: whose it must be. Raises SealedError."""
        match = TOKEN.fullmatch(token)
        key = self.keys.at_hand(match[1]) if match is not None else None
        if isinstance(key, Erased):
            raise SealedError(f"it was erased under request {key.request}")
        if isinstance(key, Broken):
            raise BrokenKeyError(key.reason)
        if key is None:
            raise SealedError("it is sealed under a key that is not known here")
        if tenant and key.tenant != tenant:
            raise SealedError("it belongs to another tenant")
        return key.open(token, scope)

    # --- around a batch -----------------------------------------------------------------------------------------------

    async def open_streams(
        self, streams: Mapping[str, Sequence[StoredRecord]]
    ) -> tuple[dict[str, list[StoredRecord]], dict[str, Person], dict[str, str], dict[str, str]]:
        """Streams as they were before they were sealed, what is known of their subjects, which cannot be opened, and
        which of these stand because their key does not open."""
        await self.learn(record.body for records in streams.values() for record in records)
        plain: dict[str, list[StoredRecord]] = {}
        persons: dict[str, Person] = {}
        broken: dict[str, str] = {}
        standing: dict[str, str] = {}
        for saga_id, records in streams.items():
            reader = _Reader(self, saga_scope(saga_id))
            try:
                plain[saga_id] = [
                    replace(record, data=opened(record.data, reader.one, _KEPT.__contains__))
                    if _BYTES in record.body
                    else record
                    for record in records
                ]
            except SealedError as error:
                broken[saga_id] = f"a personal value of the stream does not open: {error}"
                if isinstance(error, BrokenKeyError):
                    standing[saga_id] = str(error)
                plain[saga_id] = list(records)
            if reader.person is not None:
                persons[saga_id] = reader.person
        return plain, persons, broken, standing

    async def for_reading(self, records: Sequence[StoredRecord]) -> list[dict[str, Any]]:
        """The data of records as people may read it; what was erased says so, what does not open stays sealed."""
        await self.learn(record.body for record in records)
        return [opened(r.data, self._or_itself) if _BYTES in r.body else r.data for r in records]

    async def open_early(self, events: Sequence[EarlyEvent], prepared: Prepared | None = None) -> list[EarlyEvent]:
        """Kept events as they came; one that cannot be opened stays sealed, and `prepared` says so."""
        values = [orjson.dumps(event.data) for event in events]
        await self.learn(values)
        found = []
        for event, value in zip(events, values, strict=True):
            ids = key_ids(value.decode()) if _BYTES in value else ()
            if ids:
                broken = next((k for key_id in ids if isinstance(k := self.keys.at_hand(key_id), Broken)), None)
                if broken is not None and prepared is not None:
                    prepared.broken_early[event.event_id] = broken.reason
                event = replace(event, data=opened(event.data, self._or_itself))
            found.append(event)
        return found

    async def prepare(self, items: Sequence[Item], tenants: Mapping[str, Any], entries: Mapping[str, Any]) -> Prepared:
        """Finds or makes the keys of everything that this batch may write. `tenants`: saga id to its head."""
        wanted: dict[Subject, set[str]] = {}  # subject -> sagas
        whose: dict[str, tuple[Subject, str]] = {}  # saga -> subject, and the id that is known of it
        given: dict[str, Person] = {}
        early: dict[str, tuple[Subject, str]] = {}
        for saga_id, head in tenants.items():
            entry = entries.get(saga_id)
            if entry is None or head.name not in self._sagas:
                continue
            if entry.person is not None:
                given[saga_id] = entry.person
            else:
                whose[saga_id] = self._whose(head.tenant, saga_id, head.name, entry.state.start_data)
        for item in items:
            begins = item.begins if isinstance(item, DomainEvent) else (item,) if isinstance(item, SagaBegin) else ()
            for begin in begins:
                self._begin(begin, entries, whose, given)
            if isinstance(item, DomainEvent) and item.awaited and item.event.type in self._marked:
                event, tenant = item.event, item.cause.tenant
                customer = self._customer_of("", event.data)
                early[event.event_id] = ((tenant, customer or f"key:{event.key}"), customer)
        new = [(person.key_id, saga_id) for saga_id, person in given.items() if saga_id not in entries]
        await self.keys.note_sagas(new)  # first: a key that was erased meanwhile is then known as such
        held = await self.keys.by_id(person.key_id for person in given.values())
        made = Prepared()
        for saga_id, person in list(given.items()):
            key = held.get(person.key_id)
            if isinstance(key, Broken):
                del given[saga_id]
                made.broken[saga_id] = key.reason
            elif not isinstance(key, DataKey):  # erased: what comes late has its own key
                del given[saga_id]
                whose[saga_id] = ((tenants[saga_id].tenant if saga_id in tenants else "", f"saga:{saga_id}"), "")
        for saga_id, (subject, _) in whose.items():
            wanted.setdefault(subject, set()).add(saga_id)
        for subject, _ in early.values():
            wanted.setdefault(subject, set())
        letters = self.letters.wanted({item.cause.tenant for item in items} | {h.tenant for h in tenants.values()})
        broken: dict[Subject, Broken] = {}
        found = await self.keys.of_subjects({**wanted, **{subject: set() for subject in letters}}, broken)
        await self.letters.take(letters, found)
        for saga_id, person in given.items():
            key = held[person.key_id]
            assert isinstance(key, DataKey)
            made.sagas[saga_id] = Sealer(person, key, saga_scope(saga_id))
        made.broken |= {saga_id: broken[s].reason for saga_id, (s, _) in whose.items() if s in broken}
        made.broken_early |= {event_id: broken[s].reason for event_id, (s, _) in early.items() if s in broken}
        return self._prepared(made, found, whose, early, items)

    def _prepared(
        self,
        made: Prepared,
        found: Mapping[Subject, DataKey],
        whose: Mapping[str, tuple[Subject, str]],
        early: Mapping[str, tuple[Subject, str]],
        items: Sequence[Item],
    ) -> Prepared:
        for saga_id, (subject, known) in whose.items():
            if saga_id in made.broken:
                continue
            person = Person(found[subject].key_id, known)
            person.note(known)
            made.sagas[saga_id] = Sealer(person, found[subject], saga_scope(saga_id))
        for item in items:
            if isinstance(item, DomainEvent) and item.event.event_id in early.keys() - made.broken_early.keys():
                subject, known = early[item.event.event_id]
                person = Person(found[subject].key_id, known)
                person.note(known)
                scope = event_scope(item.event.type, item.event.key)
                sealer = made.early[item.event.event_id] = Sealer(person, found[subject], scope)
                self._note(sealer, item.event.type, item.event.data)
        return made

    def _begin(
        self,
        begin: SagaBegin,
        entries: Mapping[str, Any],
        whose: dict[str, tuple[Subject, str]],
        given: dict[str, Person],
    ) -> None:
        start = begin.start
        if start.saga_id in entries or start.name not in self._sagas or not isinstance(begin.given, Start):
            return
        subject, known = self._whose(start.tenant, start.saga_id, start.name, begin.given.data)
        sealed_by = begin.cause.opened.keys if begin.cause.opened is not None else ()
        if not known and sealed_by:
            given[start.saga_id] = Person(sealed_by[0])
        else:
            whose[start.saga_id] = (subject, known)

    def _whose(self, tenant: str, saga_id: str, name: str, start: Any) -> tuple[Subject, str]:
        customer = self._customer_of(name, start) if isinstance(start, Mapping) else ""
        return (tenant, customer or f"saga:{saga_id}"), customer

    # --- inside a batch -----------------------------------------------------------------------------------------------

    def note_input(self, sealer: Sealer, program: Any, given: Input, about: Opened | None) -> None:
        """Notes what an input holds of the saga's subject."""
        if about is not None:
            for text in about.texts:
                sealer.note(text)
        if isinstance(given, (Start, Arrived)):
            self._note(sealer, given.type, given.data)
        elif isinstance(given, Answer) and given.data is not None:
            node = program.graph.nodes.get(node_path(given.activity))
            if isinstance(node, StepNode):
                self._note(
                    sealer, node.undo_reply if given.purpose in ("undo", "fence_undo") else node.reply, given.data
                )

    def _note(self, sealer: Sealer, type_: str, data: Any) -> None:
        if type_ in self._marked and isinstance(data, Mapping):
            with sealing(sealer):
                self._catalog.registry.get(type_).model_validate(data)

    async def seal_event(self, tenant: str, event: Event, key: str) -> bytes:
        """The bytes of an event that is published for somebody: what is personal in it never reaches the broker."""
        if event.wire_name not in self._marked:
            return event.canonical()
        data = event.plain()
        customer = self._customer_of("", data)
        subject = (tenant, customer or f"key:{key}")
        found = (await self.keys.of_subjects({subject: ()}))[subject]
        person = Person(found.key_id, customer)
        person.note(customer)
        sealer = Sealer(person, found, event_scope(event.wire_name, key))
        self._note(sealer, event.wire_name, data)
        return canonical_bytes(sealer.form(data))

    async def seal_form(self, tenant: str, saga_id: str, form: Mapping[str, Any]) -> dict[str, Any]:
        """What somebody typed about a saga's subject, sealed as a whole under the first key that the saga has."""
        key = await self.keys.of_saga(saga_id)
        if key is None:
            subject = (tenant, f"saga:{saga_id}")
            key = (await self.keys.of_subjects({subject: [saga_id]}))[subject]
        return {FORM: key.seal(orjson.dumps(dict(form)).decode(), saga_scope(saga_id), FORM)}

    async def open_form(self, form: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same again; nothing where it was erased."""
        token = form.get(FORM)
        if not isinstance(token, str) or TOKEN.fullmatch(token) is None:
            return form
        await self.learn([token.encode()])
        try:
            opened_form: dict[str, Any] = orjson.loads(broken(self.open(token)))
        except SealedError:
            return {}
        return opened_form

    async def pseudonyms(self, tenant: str, customer: str) -> list[str]:
        """What stands for a customer in read models: the ids of their keys, and themselves where nothing is sealed."""
        return [*await self.keys.known_ids(tenant, [customer]), customer]

    def seal(
        self, early: Sequence[EarlyEvent], letters: Sequence[DeadLetter], prepared: Prepared | None
    ) -> tuple[list[EarlyEvent], list[DeadLetter]]:
        """Events and dead letters as they are kept."""
        return [self.seal_early(event, prepared) for event in early], [self.letters.seal(letter) for letter in letters]

    def seal_early(self, event: EarlyEvent, prepared: Prepared | None) -> EarlyEvent:
        """An event as it is kept."""
        sealer = prepared.early.get(event.event_id) if prepared is not None else None
        return event if sealer is None else replace(event, data=sealer.form(event.data))

    def seal_letter(self, letter: DeadLetter) -> DeadLetter:
        """A dead letter as it is kept."""
        return self.letters.seal(letter)

    async def letter_bytes(self, value: bytes | None) -> bytes | None:
        """The bytes of a dead letter as they came. Raises SealedError where its key has ended, or does not open."""
        return await self.letters.opened(value)

    def _or_itself(self, token: str) -> str:
        match = TOKEN.fullmatch(token)
        key = self.keys.at_hand(match[1]) if match is not None else None
        if isinstance(key, Erased):
            return ErasedText(key.text())
        try:
            return broken(self.open(token))  # opened once: a sealed value in it is what somebody has typed
        except SealedError:
            return token


class _Reader:
    """Opens the values of one stream, and collects what is known of its subject."""

    def __init__(self, vault: Vault, scope: str) -> None:
        self._vault = vault
        self._scope = scope
        self.person: Person | None = None

    def one(self, token: str) -> str:
        match = TOKEN.fullmatch(token)
        if match is None or match[2] != self._scope:
            return token  # a text that came from outside: sealed by nobody here
        if self.person is None:
            self.person = Person(match[1])
        key = self._vault.keys.at_hand(match[1])
        if isinstance(key, Erased):
            return ErasedText(key.text())
        text = self._vault.open(token, self._scope)
        self.person.note(text)
        return text
