"""Features, the same offline and online: views, encoding, the Redis store, history, materialization."""
