"""The same examples on every run and no time limit on any: a red test is red for everybody, and slow machines stay green."""

from hypothesis import settings

settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")
