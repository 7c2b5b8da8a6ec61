"""The vault: personal values are sealed under a key per person, and erased by destroying that key (ADR 60)."""
