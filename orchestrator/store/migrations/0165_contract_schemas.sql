-- The contracts of each stored definition as JSON Schemas: what its messages meant, readable when its code is long gone.
CREATE TABLE contract_schemas (
    name             text COLLATE "C" NOT NULL,
    version          integer NOT NULL,
    contract         text COLLATE "C" NOT NULL,
    contract_version integer NOT NULL,
    schema           bytea NOT NULL,
    PRIMARY KEY (name, version, contract)
);
COMMENT ON TABLE contract_schemas IS 'append-only: the JSON Schema of every contract of a stored definition, as it was first';
COMMENT ON COLUMN contract_schemas.name IS 'of the definition, like version';
COMMENT ON COLUMN contract_schemas.contract IS 'its wire name';
COMMENT ON COLUMN contract_schemas.schema IS 'canonical JSON';
