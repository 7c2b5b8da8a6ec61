"""The runtime: intake, coordinator, relay, timers, reconciler, participants, supervisor."""
