"""Metrics: what a process counts, and how it is told to Prometheus and to an OpenTelemetry collector."""
