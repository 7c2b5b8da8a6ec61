-- name: compare
-- Rows of one slot that the other has not got, with some of them.
WITH alone AS MATERIALIZED (
    SELECT * FROM {table}_{slot} EXCEPT ALL SELECT * FROM {table}_{other}
)
SELECT (SELECT count(*) FROM alone) AS n,
       array(SELECT left(to_jsonb(o)::text, 1000) FROM alone o LIMIT $1) AS samples
