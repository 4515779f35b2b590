"""Why a load run could not be made. One tree::

    LoadTestError
    |-- OptionRefusedError        an option that makes no sense, or is over a limit
    |-- TargetRefusedError        a host that may not be put under load
    |-- ServiceUnreachableError   nothing answers there, or it refuses the first payload
    |-- IdsUnreadableError        a table, a column or an id that cannot be used
    |-- GeneratorMissingError     no k6 binary
    `-- GeneratorFailedError      k6 stopped with an error, or left a record that cannot be read

A run that was made and turned out invalid is not an error: it is a verdict (``loadtest.verdict``).
"""

from __future__ import annotations


class LoadTestError(Exception):
    """A load run could not be made; the message says what, which and how to fix it."""


class OptionRefusedError(LoadTestError):
    """An option that makes no sense, or is over a limit."""


class TargetRefusedError(LoadTestError):
    """A host that may not be put under load."""


class ServiceUnreachableError(LoadTestError):
    """Nothing answers at the target, or it refuses the first payload."""


class IdsUnreadableError(LoadTestError):
    """A table, a column or an id that cannot be used."""


class GeneratorMissingError(LoadTestError):
    """There is no k6 binary."""


class GeneratorFailedError(LoadTestError):
    """k6 stopped with an error, or left a record that cannot be read."""
