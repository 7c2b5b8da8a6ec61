-- What is looked up after the storm, as the owner of all schemas.

-- name: ended
SELECT count(*) FROM saga_heads WHERE ended AND business_key = ANY ($1::text[]);

-- name: unfinished
SELECT business_key, phase, version, waiting_for, stuck FROM saga_heads
 WHERE NOT ended AND business_key = ANY ($1::text[]);

-- name: heads
SELECT saga_id, business_key, phase, version, hash FROM saga_heads WHERE business_key = ANY ($1::text[]);

-- name: records
SELECT saga_id, version, body, hash FROM records WHERE saga_id = ANY ($1::text[]) ORDER BY saga_id, version;
