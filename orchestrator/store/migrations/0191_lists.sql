-- What a million sagas and a hundred thousand open tasks need beside what there is, so that a page costs a page.

-- Sagas of one definition, ended ones too, newest first.
CREATE INDEX saga_heads_by_name ON saga_heads (tenant, name, started_at, saga_id);

-- Those in a phase that few are in: a list of them would read through all the others. The frequent phases are found in
-- the first rows of any list, so that a saga which goes forward and completes touches nothing of this.
CREATE INDEX saga_heads_rare ON saga_heads (tenant, phase, started_at, saga_id)
    WHERE phase NOT IN ('new', 'forward', 'completed');

-- Whom a task waits for, seen from those who may not decide it: they have a row of their own (`barred:maria`), so that "what
-- I asked for and others decide" is one range of the same index.
INSERT INTO task_candidates (due, tenant, candidate, saga_id, activity, barred)
SELECT DISTINCT c.due, c.tenant, 'barred:' || b.person, c.saga_id, c.activity, ARRAY[]::text[]
FROM task_candidates c CROSS JOIN LATERAL unnest(c.barred) AS b (person)
WHERE b.person <> ''
ON CONFLICT DO NOTHING;
COMMENT ON TABLE task_candidates IS
    'mutable: who may decide an open task (person:maria, role:manager), and who may not (barred:maria)';

-- Closed tasks by how they were closed: among those that are due first, none may be.
CREATE INDEX tasks_closed ON tasks (tenant, closed, due, saga_id, activity) WHERE closed <> '';
