-- How much is under way, for the door that refuses starts. Sizes are counted up to a limit, so that asking stays cheap
-- when it matters most; a limit of 0 is not counted at all.

-- name: load
-- $1: unsent messages, $2: commands without an answer, $3: live sagas, at most; $4: group, $5: topics. A partition that
-- was never read to an end yet (0) tells nothing about time.
SELECT (SELECT count(*) FROM (SELECT FROM outbox_unsent LIMIT $1) AS u) AS unsent_rows,
       (SELECT count(*) FROM (SELECT FROM timers WHERE command_seq > 0 LIMIT $2) AS t) AS open_commands,
       (SELECT count(*) FROM (SELECT FROM live_runs LIMIT $3) AS r) AS live_sagas,
       coalesce((SELECT greatest(clock_us() - min(read_until), 0) / 1000
                 FROM positions
                 WHERE consumer_group = $4 AND topic = ANY ($5::text[]) AND read_until > 0), 0) AS intake_behind_ms,
       (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)::bigint AS counting_ms
