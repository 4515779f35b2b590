"""Faults on purpose: what no fault may do to a user's data or to an acknowledged event. Black box, like all of ``loadtest``."""
