"""The use case: assign, fetch, encode, score, order, answer. Sees protocols only."""
