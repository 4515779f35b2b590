"""The last good plan on disk: what gives generations their numbers and survives a restart.

One file ``plan-<generation>.json`` per accepted plan, the newest kept. A file is never overwritten in part: it is written
beside, synced and renamed. The generation stands in the name as well, so that a file whose content is damaged still says
which numbers are taken. Every worker process of a machine may share the directory; ``locked`` lets one write at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.experiments.errors import LastGoodCorruptError, StateUnavailableError

_FILE = re.compile(r"plan-([1-9][0-9]{0,14})\.json")
_LOCK_FILE = "plan.lock"
_LOCK_POLL_S = 0.02
_MAX_BYTES = 16_000_000
_LIST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class AcceptedPlan:
    """A plan text that passed every check, its number, and when (unix seconds) it was first accepted."""

    generation: int
    digest: str
    saved_at: float
    text: str


@dataclass(frozen=True, slots=True)
class Newest:
    """What the directory holds: the highest number taken (0 if none) and its plan, or why that cannot be read."""

    generation: int
    accepted: AcceptedPlan | None
    problem: str | None


class _FileSchema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: int = Field(ge=1, le=1)
    generation: int = Field(ge=1)
    digest: str
    saved_at: float
    text: str
    checksum: str


def digest_of(text: str) -> str:
    """SHA-256 of a plan's text: equal digests are equal plans."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def encode_accepted(accepted: AcceptedPlan) -> bytes:
    """The one byte string that stands for an accepted plan."""
    content = {"format": 1, **asdict(accepted), "saved_at": float(accepted.saved_at)}
    return _canonical({**content, "checksum": hashlib.sha256(_canonical(content)).hexdigest()})


def decode_accepted(raw: bytes) -> AcceptedPlan:
    """Read what ``encode_accepted`` wrote.

    Raises:
        LastGoodCorruptError: any byte differs from what would be written.
    """
    try:
        schema = _FileSchema.model_validate_json(raw)
        accepted = AcceptedPlan(schema.generation, schema.digest, schema.saved_at, schema.text)
        intact = encode_accepted(accepted) == raw and digest_of(accepted.text) == accepted.digest
    except (ValidationError, ValueError):
        intact = False
    if not intact:
        raise LastGoodCorruptError("torn or altered: its checksum does not fit")
    return accepted


class LastGoodDirectory:
    """The directory of the last good plan. Reading needs no lock and changes nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def newest_generation(self) -> int:
        """The highest number taken; 0 if none.

        Raises:
            StateUnavailableError: the directory is there, but cannot be listed.
        """
        try:
            matches = [_FILE.fullmatch(path.name) for path in self._directory.iterdir()]
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StateUnavailableError(f"state directory {self._directory}: {error.strerror}") from None
        return max((int(match[1]) for match in matches if match), default=0)

    def newest(self) -> Newest:
        """The newest accepted plan. A damaged one is reported, never replaced by an older one.

        Raises:
            StateUnavailableError: the directory is there, but cannot be listed.
        """
        for _ in range(_LIST_ATTEMPTS):
            generation = self.newest_generation()
            if generation == 0:
                break
            try:
                return self._read(generation)
            except FileNotFoundError:
                continue  # a writer put a newer one in its place between the listing and the reading
        return Newest(0, None, None)

    def _read(self, generation: int) -> Newest:
        path = self._path(generation)
        try:
            with path.open("rb") as file:
                accepted = decode_accepted(file.read(_MAX_BYTES))
        except FileNotFoundError:
            raise
        except (OSError, LastGoodCorruptError) as error:
            return Newest(generation, None, f"{path.name}: {getattr(error, 'strerror', None) or error}")
        if accepted.generation != generation:
            return Newest(generation, None, f"{path.name}: holds generation {accepted.generation}")
        return Newest(generation, accepted, None)

    @contextmanager
    def locked(self, timeout_s: float) -> Iterator[None]:
        """Hold the directory's write lock against all threads and processes.

        Raises:
            StateUnavailableError: the directory cannot be made, or another writer holds the lock for ``timeout_s``.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateUnavailableError(f"state directory {self._directory}: {error.strerror}") from None
        try:
            self._acquire(descriptor, time.monotonic() + timeout_s)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StateUnavailableError(f"state directory {self._directory}: locked by another process") from None
                time.sleep(_LOCK_POLL_S)
            except OSError as error:
                raise StateUnavailableError(f"state directory {self._directory}: no lock: {error.strerror}") from None

    def save(self, accepted: AcceptedPlan) -> None:
        """Make it the newest, durably, and drop what it replaces. The caller holds ``locked``.

        Raises:
            StateUnavailableError: it could not be written and synced; whoever reads sees the old or the new, never a part.
        """
        temporary = self._directory / f".plan-{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                file.write(encode_accepted(accepted))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path(accepted.generation))
            self._sync()
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StateUnavailableError(f"state directory {self._directory}: not saved: {error.strerror}") from None
        with suppress(OSError):
            self._drop_older(accepted.generation)

    def _path(self, generation: int) -> Path:
        return self._directory / f"plan-{generation}.json"

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _drop_older(self, generation: int) -> None:
        for path in list(self._directory.iterdir()):
            match = _FILE.fullmatch(path.name)
            left_by_a_killed_writer = path.name.startswith(".plan-") and path.suffix == ".tmp"
            if left_by_a_killed_writer or (match and int(match[1]) < generation):
                path.unlink(missing_ok=True)


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
