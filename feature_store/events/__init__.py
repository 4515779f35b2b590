"""Live events: what happened a moment ago, kept safe, applied once, and written down for the next training."""
