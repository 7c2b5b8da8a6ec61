-- What the product last knew of people: a right that somebody lent goes no further than what they hold themselves, and
-- notices go to people who are known here. Written when somebody signs in or shows a token, and with local users.

CREATE TABLE known_people (
    tenant     text COLLATE "C" NOT NULL,
    person     text COLLATE "C" NOT NULL,
    roles      text[] NOT NULL,
    capacities text[] NOT NULL,
    known_at   timestamptz NOT NULL,
    known_by   text NOT NULL,
    PRIMARY KEY (tenant, person)
);
COMMENT ON TABLE known_people IS 'mutable: the groups that each person had when they were last seen, and how that was known; a cache of the identity provider''s word';

INSERT INTO known_people (tenant, person, roles, capacities, known_at, known_by)
SELECT DISTINCT ON (tenant, person) tenant, person, roles, capacities, known_at, known_by
FROM (SELECT tenant, person, roles, capacities, began_at AS known_at, authentication AS known_by FROM sessions
      UNION ALL
      SELECT tenant, person, roles, capacities, '-infinity', 'local-user' FROM local_users) AS seen
ORDER BY tenant, person, known_at DESC;
