"""The world that benchmarks run in: made data of one fixed shape, and textbook networks with drawn weights. No training."""
