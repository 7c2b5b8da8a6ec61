"""Evidence that the log is what was written: a Merkle tree over all records, signed checkpoints, and their proofs."""
