"""Redis, and nothing else knows it: the only folder that imports the driver."""
