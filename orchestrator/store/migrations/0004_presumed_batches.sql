-- A batch whose sagas are in memory, in one call that is a transaction by itself. It is decided on what the process
-- believes the heads to be; here that is verified under the locks, and written. Where anything is otherwise nothing is
-- written, and the batch is decided again on what claim_v1 reads. See docs/adr/0023.

CREATE FUNCTION presumed_v1(
    known_ids text[], known_versions integer[], known_hashes bytea[],              -- believed heads, sorted, or NULL
    start_ids text[], start_tenants text[], start_names text[], start_keys text[], -- starts, sorted by saga id, or NULL
    seen_keys bytea[], seen_hashes bytea[],                                        -- messages, sorted by key, or NULL
    assumed_us bigint,                                                             -- the clock that was decided with
    -- From here as write_v1; every seq counts from batch 1, and 0 stays 0.
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
    -- the clock, the batch's number (NULL: not as presumed, nothing is written), how many heads moved on
    OUT now_us bigint, OUT batch bigint, OUT advanced integer
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    standing integer;
    shift    bigint;
BEGIN
    now_us := clock_us();
    -- Without locks first: what is known to be otherwise costs no more than looking.
    IF assumed_us > now_us OR assumed_us < now_us - 1000000
        OR EXISTS (SELECT FROM saga_heads h WHERE h.saga_id = ANY (start_ids))
        OR EXISTS (
            SELECT FROM unnest(start_tenants, start_names, start_keys) AS s (tenant, name, business_key)
            JOIN live_runs r ON r.tenant = s.tenant AND r.name = s.name AND r.business_key = s.business_key
        )
        OR EXISTS (SELECT FROM inbox i WHERE i.key = ANY (seen_keys))
    THEN
        RETURN;
    END IF;
    -- The locks in the order of claim_v1: new heads, heads, runs, inbox. Who comes second here fails with a double key.
    IF start_ids IS NOT NULL THEN
        INSERT INTO saga_heads (saga_id, tenant, name, business_key, version, started_at)
        SELECT s.saga_id, s.tenant, s.name, s.business_key, 0, now_us
        FROM unnest(start_ids, start_tenants, start_names, start_keys) AS s (saga_id, tenant, name, business_key);
    END IF;
    IF known_ids IS NOT NULL THEN
        SELECT count(*) FILTER (WHERE l.version = l.known_version AND l.hash = l.known_hash) INTO standing
        FROM (
            SELECT h.version, h.hash, k.version AS known_version, k.hash AS known_hash
            FROM unnest(known_ids, known_versions, known_hashes) AS k (saga_id, version, hash)
            JOIN saga_heads h ON h.saga_id = k.saga_id
            ORDER BY h.saga_id FOR UPDATE OF h
        ) AS l;
        -- What is due between the instant that was decided with and now could have been decided otherwise.
        IF standing < cardinality(known_ids) OR EXISTS (
            SELECT FROM timers t WHERE t.saga_id = ANY (known_ids) AND t.due > assumed_us AND t.due <= clock_us()
        ) THEN
            DELETE FROM saga_heads h WHERE h.saga_id = ANY (start_ids);
            RETURN;
        END IF;
    END IF;
    IF start_ids IS NOT NULL THEN
        INSERT INTO live_runs (tenant, name, business_key, saga_id)
        SELECT s.tenant, s.name, s.business_key, s.saga_id
        FROM unnest(start_ids, start_tenants, start_names, start_keys) AS s (saga_id, tenant, name, business_key)
        ORDER BY s.tenant COLLATE "C", s.name COLLATE "C", s.business_key COLLATE "C";
    END IF;
    IF seen_keys IS NOT NULL THEN
        INSERT INTO inbox (received_at, key, body_hash)
        SELECT now_us, m.key, m.body_hash FROM unnest(seen_keys, seen_hashes) AS m (key, body_hash);
    END IF;
    -- All locks are held. Whoever asks what became of this call waits for them from the same instant on: later than that
    -- it must not write.
    IF clock_us() > assumed_us + 1000000 THEN
        RAISE EXCEPTION 'this batch waited for its locks for more than a second' USING ERRCODE = 'lock_not_available';
    END IF;
    -- Only now the batch's number.
    batch := nextval('batches');
    shift := (batch - 1) << 20;
    advanced := write_v1(
        gone_sagas, gone_activities, gone_armed,
        CASE WHEN record_seqs IS NOT NULL THEN
            ARRAY (SELECT s.seq + shift FROM unnest(record_seqs) WITH ORDINALITY AS s (seq, place) ORDER BY s.place)
        END,
        record_versions, record_sagas, record_tenants, record_hashes, record_bodies,
        head_sagas, head_versions, head_definitions, head_hashes, head_phases, head_outcomes, head_stuck, head_waiting,
        head_ended, head_parents,
        message_slots,
        CASE WHEN message_seqs IS NOT NULL THEN
            ARRAY (SELECT s.seq + shift FROM unnest(message_seqs) WITH ORDINALITY AS s (seq, place) ORDER BY s.place)
        END,
        message_versions, message_sagas, message_topics, message_keys, message_headers, message_values,
        timer_sagas, timer_activities, timer_due, timer_periods, timer_armed,
        CASE WHEN timer_commands IS NOT NULL THEN
            ARRAY (
                SELECT CASE WHEN s.seq > 0 THEN s.seq + shift ELSE 0 END
                FROM unnest(timer_commands) WITH ORDINALITY AS s (seq, place) ORDER BY s.place
            )
        END,
        batch, run_tenants, run_names, run_keys, run_sagas,
        done_sagas, done_activities, done_types, done_keys, closed_sagas, closed_activities,
        wait_tenants, wait_types, wait_keys, wait_sagas, wait_activities, wait_from, wait_unchecked,
        groups, topics, partitions, next_offsets, reads_until,
        assumed_us
    );
END
$$;
COMMENT ON FUNCTION presumed_v1 IS 'writes a small batch that was decided from memory, if everything is as presumed';
