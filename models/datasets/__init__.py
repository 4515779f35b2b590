"""Converters and the simulator: each writes three tables and one YAML of feature views."""
