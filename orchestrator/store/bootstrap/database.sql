-- The product's database, run once by a superuser after roles.sql. One statement: it cannot run inside a transaction.
CREATE DATABASE orchestrator OWNER orchestrator_owner;
