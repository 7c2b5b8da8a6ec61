"""Benches: the shipped product under load, and whether what it did was right."""
