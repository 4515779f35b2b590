"""Tables to point-in-time rows, rows to a trained run with metrics and plots."""
