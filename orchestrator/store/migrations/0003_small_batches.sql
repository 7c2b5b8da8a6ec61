-- A small batch in two calls instead of fifteen statements. What a statement costs beside its work (a round trip, a task,
-- parsing its answer) is a few tenths of a millisecond, which is nothing for five hundred inputs and nearly all for one.
-- Each function does what the statements of batch.sql of the same names do, in the same order; large batches use those.
-- A changed function gets a new name (_v2) in a new migration, so that old and new processes can run side by side.

CREATE FUNCTION claim_v1(
    start_ids text[], start_tenants text[], start_names text[], start_keys text[], -- starts, sorted by saga id, or NULL
    wanted text[],                                                                 -- every saga, sorted, starts included
    message_keys bytea[], message_hashes bytea[]                                   -- sorted by key, or NULL: no messages
) RETURNS TABLE (
    now_us bigint, batch bigint, seen_keys bytea[], seen_hashes bytea[],           -- the same in every row
    saga_id text, tenant text, name text, definition_version integer, business_key text, version integer, hash bytea,
    recorded_at bigint, ended boolean, run_owner text                              -- NULL where no saga is there at all
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    locked integer;
    taken  bytea[];
BEGIN
    -- make_heads, lock_heads. Missing only where another batch held the same start and gave it up between the two.
    FOR attempt IN 1..5 LOOP
        IF start_ids IS NOT NULL THEN
            INSERT INTO saga_heads (saga_id, tenant, name, business_key, version, started_at)
            SELECT s.saga_id, s.tenant, s.name, s.business_key, 0, (SELECT clock_us())
            FROM unnest(start_ids, start_tenants, start_names, start_keys) AS s (saga_id, tenant, name, business_key)
            ON CONFLICT (saga_id) DO NOTHING;
        END IF;
        SELECT count(*) FILTER (WHERE l.saga_id = ANY (start_ids)) INTO locked
        FROM (SELECT h.saga_id FROM saga_heads h WHERE h.saga_id = ANY (wanted) ORDER BY h.saga_id FOR UPDATE) AS l;
        EXIT WHEN locked >= coalesce(cardinality(start_ids), 0);
    END LOOP;
    IF start_ids IS NOT NULL THEN -- take_runs
        INSERT INTO live_runs (tenant, name, business_key, saga_id)
        SELECT s.tenant, s.name, s.business_key, s.saga_id
        FROM unnest(start_ids, start_tenants, start_names, start_keys) AS s (saga_id, tenant, name, business_key)
        JOIN saga_heads h ON h.saga_id = s.saga_id AND h.version = 0
        ORDER BY s.tenant COLLATE "C", s.name COLLATE "C", s.business_key COLLATE "C"
        ON CONFLICT (tenant, name, business_key) DO NOTHING;
    END IF;
    IF message_keys IS NOT NULL THEN -- take_in, taken_before
        WITH new AS (
            INSERT INTO inbox (received_at, key, body_hash)
            SELECT (SELECT clock_us()), m.key, m.body_hash
            FROM unnest(message_keys, message_hashes) AS m (key, body_hash)
            ON CONFLICT (key) DO NOTHING
            RETURNING key
        )
        SELECT array_agg(key) INTO taken FROM new;
        IF coalesce(cardinality(taken), 0) < cardinality(message_keys) THEN
            SELECT array_agg(i.key), array_agg(i.body_hash) INTO seen_keys, seen_hashes
            FROM inbox i WHERE i.key = ANY (message_keys) AND i.key <> ALL (coalesce(taken, '{}'));
        END IF;
    END IF;
    -- All locks are held: only now the clock, and the batch's number.
    now_us := clock_us();
    batch := nextval('batches');
    RETURN QUERY
    SELECT now_us, batch, seen_keys, seen_hashes, h.saga_id, h.tenant, h.name, h.definition_version, h.business_key,
           h.version, h.hash, h.recorded_at, h.ended, r.saga_id
    FROM (SELECT) AS always
    LEFT JOIN saga_heads h ON h.saga_id = ANY (wanted)
    LEFT JOIN live_runs r
        ON h.saga_id = ANY (start_ids) AND r.tenant = h.tenant AND r.name = h.name AND r.business_key = h.business_key;
END
$$;
COMMENT ON FUNCTION claim_v1 IS 'locks the heads of a small batch, makes those of starts, takes its messages in';

CREATE FUNCTION write_v1(
    gone_sagas text[], gone_activities text[], gone_armed integer[],
    record_seqs bigint[], record_versions integer[], record_sagas text[], record_tenants text[], record_hashes bytea[],
    record_bodies bytea[],
    head_sagas text[], head_versions integer[], head_definitions integer[], head_hashes text[], head_phases text[],
    head_outcomes text[], head_stuck integer[], head_waiting text[], head_ended boolean[], head_parents text[],
    message_slots smallint[], message_seqs bigint[], message_versions integer[], message_sagas text[],
    message_topics text[], message_keys text[], message_headers bytea[], message_values bytea[],
    timer_sagas text[], timer_activities text[], timer_due bigint[], timer_periods bigint[], timer_armed integer[],
    timer_commands bigint[],
    batch_number bigint, run_tenants text[], run_names text[], run_keys text[], run_sagas text[],
    done_sagas text[], done_activities text[], done_types text[], done_keys text[],
    closed_sagas text[], closed_activities text[],
    wait_tenants text[], wait_types text[], wait_keys text[], wait_sagas text[], wait_activities text[],
    wait_from bigint[], wait_unchecked boolean[],
    groups text[], topics text[], partitions integer[], next_offsets bigint[], reads_until bigint[],
    now_us bigint
) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    advanced integer := 0;
BEGIN
    IF gone_sagas IS NOT NULL THEN -- clear_timers
        DELETE FROM timers t
        USING unnest(gone_sagas, gone_activities, gone_armed) AS c (saga_id, activity, armed)
        WHERE t.saga_id = c.saga_id AND t.activity = c.activity AND (c.armed = 0 OR t.armed = c.armed);
    END IF;
    IF record_seqs IS NOT NULL THEN -- records_stored, advance_heads, announce_batch
        INSERT INTO records_stored (seq, version, saga_id, tenant, hash, body)
        SELECT * FROM unnest(record_seqs, record_versions, record_sagas, record_tenants, record_hashes, record_bodies);
        UPDATE saga_heads h
        SET version = u.version, definition_version = u.definition_version, hash = decode(u.hash, 'hex'),
            recorded_at = greatest(h.recorded_at, now_us), phase = u.phase, outcome = u.outcome, stuck = u.stuck,
            waiting_for = u.waiting_for, ended = u.ended, parent = u.parent
        FROM unnest(head_sagas, head_versions, head_definitions, head_hashes, head_phases, head_outcomes, head_stuck,
                    head_waiting, head_ended, head_parents)
             AS u (saga_id, version, definition_version, hash, phase, outcome, stuck, waiting_for, ended, parent)
        WHERE h.saga_id = u.saga_id AND h.version < u.version;
        GET DIAGNOSTICS advanced = ROW_COUNT;
        INSERT INTO feed_unsealed (batch, records) VALUES (batch_number, cardinality(record_seqs));
    END IF;
    IF message_seqs IS NOT NULL THEN -- outbox_unsent, outbox
        INSERT INTO outbox_unsent (seq, written_at, slot)
        SELECT m.seq, now_us, m.slot FROM unnest(message_seqs, message_slots) AS m (seq, slot);
        INSERT INTO outbox (seq, written_at, version, saga_id, topic, key, headers, value)
        SELECT m.seq, now_us, m.version, m.saga_id, m.topic, m.key, m.headers, m.value
        FROM unnest(message_seqs, message_versions, message_sagas, message_topics, message_keys, message_headers,
                    message_values) AS m (seq, version, saga_id, topic, key, headers, value);
    END IF;
    IF timer_sagas IS NOT NULL THEN -- timers
        INSERT INTO timers (saga_id, activity, due, period, armed, command_seq)
        SELECT * FROM unnest(timer_sagas, timer_activities, timer_due, timer_periods, timer_armed, timer_commands);
    END IF;
    IF run_sagas IS NOT NULL THEN -- free_runs
        DELETE FROM live_runs r
        USING unnest(run_tenants, run_names, run_keys, run_sagas) AS e (tenant, name, business_key, saga_id)
        WHERE r.tenant = e.tenant AND r.name = e.name AND r.business_key = e.business_key AND r.saga_id = e.saga_id;
    END IF;
    IF done_sagas IS NOT NULL THEN -- checks_done
        DELETE FROM wait_checks w
        USING unnest(done_sagas, done_activities, done_types, done_keys) AS d (saga_id, activity, type, key)
        WHERE w.saga_id = d.saga_id AND w.activity = d.activity AND w.type = d.type AND w.key = d.key;
    END IF;
    IF closed_sagas IS NOT NULL THEN -- close_waits
        DELETE FROM wait_checks w USING unnest(closed_sagas, closed_activities) AS c (saga_id, activity)
        WHERE w.saga_id = c.saga_id AND w.activity = c.activity;
        DELETE FROM waits w USING unnest(closed_sagas, closed_activities) AS c (saga_id, activity)
        WHERE w.saga_id = c.saga_id AND w.activity = c.activity;
    END IF;
    IF wait_sagas IS NOT NULL THEN -- open_waits
        INSERT INTO wait_checks (since, saga_id, activity, type, key)
        SELECT now_us, o.saga_id, o.activity, o.type, o.key
        FROM unnest(wait_sagas, wait_activities, wait_types, wait_keys, wait_unchecked)
             AS o (saga_id, activity, type, key, unchecked)
        WHERE o.unchecked
        ON CONFLICT (saga_id, activity, type, key) DO UPDATE SET since = excluded.since;
        INSERT INTO waits (accepts_from, opened_at, tenant, type, key, saga_id, activity)
        SELECT o.accepts_from, now_us, o.tenant, o.type, o.key, o.saga_id, o.activity
        FROM unnest(wait_from, wait_tenants, wait_types, wait_keys, wait_sagas, wait_activities)
             AS o (accepts_from, tenant, type, key, saga_id, activity)
        ON CONFLICT (saga_id, activity, type, key) DO UPDATE
        SET accepts_from = excluded.accepts_from, opened_at = excluded.opened_at;
    END IF;
    IF topics IS NOT NULL THEN -- move_positions
        INSERT INTO positions (consumer_group, topic, partition, next_offset, read_until, updated_at)
        SELECT p.*, now_us FROM unnest(groups, topics, partitions, next_offsets, reads_until) AS p
        ON CONFLICT (consumer_group, topic, partition) DO UPDATE
        SET next_offset = greatest(positions.next_offset, excluded.next_offset),
            read_until = greatest(positions.read_until, excluded.read_until), updated_at = excluded.updated_at;
    END IF;
    RETURN advanced;
END
$$;
COMMENT ON FUNCTION write_v1 IS 'writes what nearly every small batch writes; how many heads moved on';
