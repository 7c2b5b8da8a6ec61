-- The log in tables. Tables and what they promise: orchestrator/store/migrations/0002_broker.sql.

-- --- topics ------------------------------------------------------------------------------------------------------------

-- name: create_topics
-- $1 names, $2 partitions, $3 retention_ms. Existing ones stay as they are; several processes may do this at once.
WITH made AS (
    INSERT INTO broker_topic (name, partitions, retention_ms)
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS wanted (name, partitions, retention_ms)
    ORDER BY wanted.name
    ON CONFLICT (name) DO NOTHING
    RETURNING topic_id, partitions
)
INSERT INTO broker_head (topic_id, partition)
SELECT made.topic_id, number FROM made CROSS JOIN LATERAL generate_series(0, made.partitions - 1) AS number;

-- name: topics
SELECT name, topic_id, partitions FROM broker_topic WHERE name = ANY ($1::text[]);

-- --- append ------------------------------------------------------------------------------------------------------------

-- name: append
-- $1 topic_ids, $2 partitions, $3 how many messages for each; then one entry per message: $4 topic_ids, $5 partitions,
-- $6 place within its partition's part (0, 1, ...), $7 keys, $8 values, $9 headers. Returns the number appended.
--
-- The heads are locked in the order of their key, so that two appends can wait for each other, but never in a circle.
-- The append time is read after the lock is had, so it never goes back within a partition.
WITH part AS (
    SELECT * FROM unnest($1::integer[], $2::integer[], $3::integer[]) AS p (topic_id, partition, amount)
), locked AS MATERIALIZED (
    SELECT h.topic_id, h.partition, part.amount
    FROM part JOIN broker_head h ON h.topic_id = part.topic_id AND h.partition = part.partition
    ORDER BY h.topic_id, h.partition
    FOR NO KEY UPDATE OF h
), moved AS (
    UPDATE broker_head h
    SET next_offset = h.next_offset + locked.amount, appended_at = greatest(h.appended_at, clock_us())
    FROM locked
    WHERE h.topic_id = locked.topic_id AND h.partition = locked.partition
    RETURNING h.topic_id, h.partition, h.next_offset - locked.amount AS base, h.appended_at
), added AS (
    INSERT INTO broker_message (topic_id, partition, log_offset, appended_at, key, value, headers)
    SELECT m.topic_id, m.partition, moved.base + m.place, moved.appended_at, m.key, m.value, m.headers
    FROM unnest($4::integer[], $5::integer[], $6::integer[], $7::bytea[], $8::bytea[], $9::bytea[])
        AS m (topic_id, partition, place, key, value, headers)
    JOIN moved ON moved.topic_id = m.topic_id AND moved.partition = m.partition
    RETURNING 1
)
SELECT count(*) FROM added;

-- name: hint
-- $1 channel, $2 payload. Only a hint: a lost one costs a poll. Not worth waiting for the disk, and never part of an
-- append: NOTIFY takes a lock on the whole database while it commits.
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2);

-- name: alive
SELECT 1;

-- --- read --------------------------------------------------------------------------------------------------------------

-- name: fetch
-- $1 topic_ids, $2 partitions, $3 next offsets; $4 how many messages at most, $5 how many bytes (the first message always
-- comes). Partitions are read in the order given, each in the order of offsets; the reader checks that none is missing.
SELECT topic_id, partition, log_offset, appended_at, key, value, headers
FROM (
    SELECT m.*, sum(m.size) OVER (ROWS UNBOUNDED PRECEDING) - m.size AS size_before
    FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS p (topic_id, partition, position)
    CROSS JOIN LATERAL (
        SELECT topic_id, partition, log_offset, appended_at, key, value, headers,
               coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + octet_length(headers) AS size
        FROM broker_message
        WHERE topic_id = p.topic_id AND partition = p.partition AND log_offset >= p.position
        ORDER BY log_offset
        LIMIT $4
    ) m
    LIMIT $4
) page
WHERE size_before < $5;

-- name: bounds
-- $1 topic_ids, $2 partitions.
SELECT h.topic_id, h.partition, h.start_offset, h.next_offset
FROM unnest($1::integer[], $2::integer[]) AS p (topic_id, partition)
JOIN broker_head h ON h.topic_id = p.topic_id AND h.partition = p.partition;

-- name: look
-- $1 topic_id, $2 partition, $3 from which offset, $4 how many messages at most.
SELECT log_offset, appended_at, key, value, headers
FROM broker_message
WHERE topic_id = $1 AND partition = $2 AND log_offset >= $3
ORDER BY log_offset
LIMIT $4;

-- name: first_since
-- The first offset of a partition that was appended at or after $3, between offsets $4 and $5; $5 where there is none.
-- Append times never go back within a partition, so halving the range finds it.
WITH RECURSIVE half AS (
    SELECT $4::bigint AS low, $5::bigint AS high
    UNION ALL
    SELECT CASE WHEN m.appended_at < $3 THEN m.log_offset + 1 ELSE h.low END,
           CASE WHEN m.appended_at < $3 THEN h.high ELSE m.log_offset END
    FROM half h
    JOIN broker_message m ON m.topic_id = $1 AND m.partition = $2 AND m.log_offset = (h.low + h.high) / 2
    WHERE h.low < h.high
)
SELECT low FROM half ORDER BY high - low LIMIT 1;

-- --- groups ------------------------------------------------------------------------------------------------------------

-- name: take_place
-- A restarted process takes over the membership of its former self. $1 group, $2 member, $3 instance.
-- The row changes hands, it is never gone: else the former self could join again in between.
WITH former AS (
    SELECT member_id FROM broker_member WHERE group_name = $1 AND instance_id = $3 AND member_id <> $2 FOR UPDATE
), taken AS (
    UPDATE broker_member m SET member_id = $2
    FROM former WHERE m.group_name = $1 AND m.member_id = former.member_id
)
UPDATE broker_ownership o
SET member_id = $2, epoch = o.epoch + 1
FROM former
WHERE o.group_name = $1 AND o.member_id = former.member_id;

-- name: beat
-- Join or stay. $1 group, $2 member, $3 instance or null, $4 topic_ids, $5 lease in milliseconds.
WITH dead AS (
    DELETE FROM broker_member WHERE group_name = $1 AND member_id <> $2 AND expires_at <= clock_us()
)
INSERT INTO broker_member (group_name, member_id, instance_id, topic_ids, expires_at)
VALUES ($1, $2, $3, $4::integer[], clock_us() + $5::bigint * 1000)
ON CONFLICT (group_name, member_id) DO UPDATE
SET expires_at = EXCLUDED.expires_at, topic_ids = EXCLUDED.topic_ids;

-- name: members
SELECT member_id, topic_ids FROM broker_member WHERE group_name = $1 AND expires_at > clock_us();

-- name: ownership
-- $1 group, $2 topic_ids.
SELECT topic_id, partition, member_id FROM broker_ownership
WHERE group_name = $1 AND topic_id = ANY ($2::integer[]) AND member_id IS NOT NULL;

-- name: claim
-- $1 group, $2 member, $3 topic_ids, $4 partitions. Takes what nobody alive has; returns what was taken.
INSERT INTO broker_ownership AS o (group_name, topic_id, partition, member_id)
SELECT $1, p.topic_id, p.partition, $2
FROM unnest($3::integer[], $4::integer[]) AS p (topic_id, partition)
ORDER BY p.topic_id, p.partition
ON CONFLICT (group_name, topic_id, partition) DO UPDATE
SET member_id = EXCLUDED.member_id, epoch = o.epoch + 1
WHERE o.member_id IS NULL OR NOT EXISTS (
    SELECT FROM broker_member m
    WHERE m.group_name = o.group_name AND m.member_id = o.member_id AND m.expires_at > clock_us()
)
RETURNING topic_id, partition;

-- name: release
-- $1 group, $2 member, $3 topic_ids, $4 partitions.
UPDATE broker_ownership o
SET member_id = NULL
FROM unnest($3::integer[], $4::integer[]) AS p (topic_id, partition)
WHERE o.group_name = $1 AND o.member_id = $2 AND o.topic_id = p.topic_id AND o.partition = p.partition;

-- name: leave
-- $1 group, $2 member.
WITH gone AS (
    DELETE FROM broker_member WHERE group_name = $1 AND member_id = $2
)
UPDATE broker_ownership SET member_id = NULL WHERE group_name = $1 AND member_id = $2;

-- name: report
-- Progress for lag and retention, from the owner only. $1 group, $2 member, $3 topic_ids, $4 partitions, $5 next offsets.
UPDATE broker_ownership o
SET next_offset = p.next_offset
FROM unnest($3::integer[], $4::integer[], $5::bigint[]) AS p (topic_id, partition, next_offset)
WHERE o.group_name = $1 AND o.member_id = $2 AND o.topic_id = p.topic_id AND o.partition = p.partition
  AND o.next_offset IS DISTINCT FROM p.next_offset;

-- --- retention ---------------------------------------------------------------------------------------------------------

-- name: advance_start
-- $1 most messages per partition and pass, $2 how many times the retention unread messages are kept.
-- Moves the start of each partition over what is older than its retention and read by every group that ever read it, or
-- that old several times over. First the start moves, then messages are deleted: a reader that finds none missing is right.
WITH due AS (
    SELECT h.topic_id, h.partition, (
        SELECT max(oldest.log_offset) + 1
        FROM (
            SELECT m.log_offset, m.appended_at FROM broker_message m
            WHERE m.topic_id = h.topic_id AND m.partition = h.partition AND m.log_offset >= h.start_offset
            ORDER BY m.log_offset LIMIT $1
        ) oldest
        WHERE oldest.appended_at < clock_us() - t.retention_ms * 1000
          AND (oldest.appended_at < clock_us() - t.retention_ms * 1000 * $2::integer OR oldest.log_offset < coalesce((
              SELECT min(coalesce(o.next_offset, 0)) FROM broker_ownership o
              WHERE o.topic_id = h.topic_id AND o.partition = h.partition
          ), h.next_offset))
    ) AS new_start
    FROM broker_head h JOIN broker_topic t USING (topic_id)
    WHERE h.next_offset > h.start_offset
)
UPDATE broker_head h
SET start_offset = due.new_start
FROM due
WHERE h.topic_id = due.topic_id AND h.partition = due.partition AND due.new_start > h.start_offset;

-- name: delete_before_start
-- $1 most messages per partition and pass.
DELETE FROM broker_message m
USING broker_head h CROSS JOIN LATERAL (
    SELECT old.log_offset FROM broker_message old
    WHERE old.topic_id = h.topic_id AND old.partition = h.partition AND old.log_offset < h.start_offset
    ORDER BY old.log_offset LIMIT $1
) old
WHERE m.topic_id = h.topic_id AND m.partition = h.partition AND m.log_offset = old.log_offset;
