-- What a saga recorded is found by the key of the records themselves; each record's place in the order is the key of its
-- row in the audit trail. An index of that trail by saga was one more, of random ids: the dearest to build.
DROP INDEX IF EXISTS audit_a_by_saga, audit_b_by_saga;
