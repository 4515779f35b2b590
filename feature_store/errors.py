"""Every error of the online feature store, as one tree.

FeatureStoreError
├── RecordError                a value read from the store cannot be used
│   ├── RecordCorruptError       undecodable, of another schema, or breaking the record's own rules
│   ├── RecordTooLargeError      longer than the reader accepts
│   ├── RecordWrongTypeError     no string, but another Redis type
│   └── OwnerMismatchError       a sound record that belongs to somebody else
├── RecordRefusedError         a record must not be written as it is
├── StoreUnavailableError      the store did not answer; ``reason`` says why, from a closed set
├── StoreRewoundError          the store has lost writes that it had acknowledged; they must be applied again
├── StoreSettingError          a URL or key prefix that cannot be used
├── EmbeddedStoreError         the embedded server cannot be started, reached or stopped
├── SpoolFullError             too many acknowledged events wait for the store
├── SpoolFailedError           the disk under the spool gave trouble, or the spool is closed
│   ├── SpoolForeignError        the spool holds the events of another store
│   └── SpoolLockedError         another process, or another part of this one, uses the spool
├── MaterializeError           tables could not be written whole into the store
├── BenchmarkError             what was measured is not what should be: ways that differ, or work not done
└── ExportError                the event log could not be made into tables
    └── EventLogGapError         events are missing from the log, or cannot be read
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

UnavailableReason = Literal[
    "timeout",
    "refused",
    "disconnected",
    "pool_exhausted",
    "circuit_open",
    "closed",
    "loading",
    "readonly",
    "oom",
    "misconf",
    "cluster_down",
    "noauth",
    "protocol",
    "unknown",
]

FaultKind = Literal["corrupt", "oversized", "wrong_type", "owner_mismatch"]


class FeatureStoreError(Exception):
    """Base of everything the online feature store raises."""


class RecordError(FeatureStoreError):
    """A stored value cannot be used; ``kind`` names the fault in metrics."""

    kind: FaultKind


class RecordCorruptError(RecordError):
    """The bytes are no record of the known schema."""

    kind = "corrupt"


class RecordTooLargeError(RecordError):
    """The value is longer than the reader accepts."""

    kind = "oversized"


class RecordWrongTypeError(RecordError):
    """The key holds a list, hash, set, sorted set or stream, where a record is a string."""

    kind = "wrong_type"


class OwnerMismatchError(RecordError):
    """The record belongs to another owner than the one asked for."""

    kind = "owner_mismatch"


class RecordRefusedError(FeatureStoreError, ValueError):
    """A record that readers would refuse was about to be written."""


class StoreUnavailableError(FeatureStoreError):
    """The store gave no usable answer."""

    def __init__(self, reason: UnavailableReason, detail: str = "") -> None:
        self.reason: UnavailableReason = reason
        super().__init__(f"feature store unavailable: {reason}{': ' if detail else ''}{detail}")


class StoreRewoundError(FeatureStoreError):
    """The store knows less than it did: it came back without its last writes, was emptied, or is another one.

    ``applied_through`` is how far the spool is applied now, as the store says; None when it knows nothing of the spool.
    ``servers_changed``: other servers said so than those that are there now, which may have less.
    """

    def __init__(self, applied_through: int | None, *, servers_changed: bool = False) -> None:
        changed = ", on other servers" if servers_changed else ""
        super().__init__(f"the store may have lost writes; the spool is applied through {applied_through}{changed}")
        self.applied_through = applied_through
        self.servers_changed = servers_changed


class StoreSettingError(FeatureStoreError, ValueError):
    """A setting of the store is wrong; the message never repeats a URL, which may hold a password."""


class EmbeddedStoreError(FeatureStoreError):
    """The embedded server could not be started, reached or stopped."""


class SpoolFullError(FeatureStoreError):
    """The spool holds as many unapplied bytes as it may; nothing of the append was taken."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class SpoolFailedError(FeatureStoreError):
    """The disk refused something, or the spool is closed."""


class SpoolForeignError(SpoolFailedError):
    """The spool was written for another store; applying it here would mix the two."""


class SpoolLockedError(SpoolFailedError):
    """The spool is in use."""


class MaterializeError(FeatureStoreError):
    """The tables could not be written, or the store does not hold what was written."""


class BenchmarkError(FeatureStoreError):
    """A measurement would mean nothing: the ways compared gave different results, or some of the work was not done."""


class ExportError(FeatureStoreError):
    """The event log and the tables do not make tables together, or the place to write them is taken."""


class EventLogGapError(ExportError):
    """Events are missing from the log, or cannot be read; ``gaps`` names each such place, one line each."""

    def __init__(self, gaps: Iterable[str]) -> None:
        self.gaps = list(gaps)
        super().__init__("\n".join(self.gaps))
