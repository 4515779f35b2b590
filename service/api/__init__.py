"""Thin doors: routes, wire schemas, problem+json errors."""
