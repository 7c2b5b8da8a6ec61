"""The whole runtime in a simulated world: production loops over a simulated clock, broker, store and people."""
