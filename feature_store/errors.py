"""Every error of the online feature store, as one tree.

FeatureStoreError
├── RecordError                a value read from the store cannot be used
│   ├── RecordCorruptError       undecodable, of another schema, or breaking the record's own rules
│   ├── RecordTooLargeError      longer than the reader accepts
│   └── OwnerMismatchError       a sound record that belongs to somebody else
├── RecordRefusedError         a record must not be written as it is
├── StoreUnavailableError      the store did not answer; ``reason`` says why, from a closed set
├── StoreSettingError          a URL or key prefix that cannot be used
├── EmbeddedStoreError         the embedded server cannot be started, reached or stopped
└── MaterializeError           tables could not be written whole into the store
"""

from __future__ import annotations

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
    "noauth",
    "protocol",
    "unknown",
]

FaultKind = Literal["corrupt", "oversized", "owner_mismatch"]


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


class StoreSettingError(FeatureStoreError, ValueError):
    """A setting of the store is wrong; the message never repeats a URL, which may hold a password."""


class EmbeddedStoreError(FeatureStoreError):
    """The embedded server could not be started, reached or stopped."""


class MaterializeError(FeatureStoreError):
    """The tables could not be written, or the store does not hold what was written."""
