"""The kernel: graph, records, state, decide. Pure: no clock, no I/O, no logging."""
