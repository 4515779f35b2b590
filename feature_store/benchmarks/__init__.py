"""Benchmarks of the online feature store: what reads and writes cost, beside the plain ways of doing the same."""
