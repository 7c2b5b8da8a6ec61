-- name: schemas_there
SELECT EXISTS (SELECT FROM contract_schemas WHERE name = $1 AND version = $2) AS there

-- name: keep_schemas
-- What was stored first stays: a later release may describe the same contract in other words.
INSERT INTO contract_schemas (name, version, contract, contract_version, schema)
SELECT $1, $2, given.contract, given.contract_version, given.schema
FROM unnest($3::text[], $4::int[], $5::bytea[]) AS given (contract, contract_version, schema)
ON CONFLICT (name, version, contract) DO NOTHING

-- name: schemas
SELECT contract, contract_version, schema FROM contract_schemas WHERE name = $1 AND version = $2 ORDER BY contract
