"""Traces: spans made from records and kept notes, encoded, sampled, sent. Outside the path of any commit."""
