"""The model repository: ``<root>/<name>/<version>/`` directories that appear whole or not at all. No torch, no onnx."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from models.manifest import MANIFEST_FILE, ArtifactFile, Manifest

_REFERENCE = re.compile(r"^(?P<name>[a-z0-9][a-z0-9_-]{0,63})@(?P<version>latest|[1-9][0-9]{0,8})$")
_VERSION_DIRECTORY = re.compile(r"^[1-9][0-9]{0,8}$")
_CHUNK_BYTES = 1 << 20


class RepositoryError(Exception):
    """Base of what can go wrong with published versions.

    RepositoryError
    ├── ReferenceInvalidError   not ``name@version`` or ``name@latest``
    ├── ModelNotFoundError      no such published version
    ├── VersionRefusedError     published, but not what its manifest says
    └── StagedRefusedError      staged, but not plain files
    """


class ReferenceInvalidError(RepositoryError):
    """The text is not ``name@version`` or ``name@latest``."""


class ModelNotFoundError(RepositoryError):
    """No published version answers to the reference."""


class VersionRefusedError(RepositoryError):
    """The version's files do not match its manifest."""


class StagedRefusedError(RepositoryError):
    """A staged directory holds something that cannot be published."""


@dataclass(frozen=True, slots=True)
class ModelReference:
    """``deepfm@3`` or ``deepfm@latest``; ``version`` is None for the latter."""

    name: str
    version: int | None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Read a reference.

        Raises:
            ReferenceInvalidError: the text has another shape.
        """
        match = _REFERENCE.match(text)
        if match is None or "\n" in text:
            raise ReferenceInvalidError("a model reference is name@version or name@latest, such as deepfm@3")
        version = match["version"]
        return cls(match["name"], None if version == "latest" else int(version))

    def __str__(self) -> str:
        return f"{self.name}@{'latest' if self.version is None else self.version}"


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version directory whose manifest was read; ``file_bytes`` checks before it hands out."""

    directory: Path
    manifest: Manifest

    def file_bytes(self, name: str) -> bytes:
        """The content of a listed file, checked against its SHA-256: what was hashed is what is used.

        Raises:
            VersionRefusedError: the file is not listed, missing, a link, or altered.
        """
        file = self._listed(name)
        path = self.directory / name
        if path.is_symlink():
            raise VersionRefusedError(f"{path}: links are not followed")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise VersionRefusedError(f"{path}: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise VersionRefusedError(f"{path}: SHA-256 differs from the manifest's")
        return content

    def checked_path(self, name: str) -> Path:
        """The path of a listed file, checked against its SHA-256: for what is mapped into memory instead of read.

        Raises:
            VersionRefusedError: as ``file_bytes``.
        """
        return self._check(self._listed(name))

    def check_files(self) -> None:
        """Check every listed file without keeping its content (large external data included).

        Raises:
            VersionRefusedError: as ``file_bytes``.
        """
        for file in self.manifest.files:
            self._check(file)

    def _listed(self, name: str) -> ArtifactFile:
        for file in self.manifest.files:
            if file.name == name:
                return file
        raise VersionRefusedError(f"{self.directory}: {name} is not listed in the manifest")

    def _check(self, file: ArtifactFile) -> Path:
        path = self.directory / file.name
        if path.is_symlink():
            raise VersionRefusedError(f"{path}: links are not followed")
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise VersionRefusedError(f"{path}: {error.strerror}") from None
        if digest != file.sha256:
            raise VersionRefusedError(f"{path}: SHA-256 differs from the manifest's")
        return path


class ModelRepository:
    """Reads and publishes versions under one root directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Names with at least one published version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and self.versions(path.name))

    def versions(self, name: str) -> list[int]:
        """Published versions of a name, ascending; a directory without a manifest is not published."""
        directory = self.root / name
        if not directory.is_dir():
            return []
        return sorted(
            int(path.name)
            for path in directory.iterdir()
            if _VERSION_DIRECTORY.match(path.name) and (path / MANIFEST_FILE).is_file()
        )

    def resolve(self, reference: ModelReference) -> ModelReference:
        """Replace ``latest`` by the highest published version.

        Raises:
            ModelNotFoundError: no such version.
        """
        versions = self.versions(reference.name)
        if not versions:
            known = ", ".join(self.names()) or "none"
            raise ModelNotFoundError(f"{reference}: no published version in {self.root} (published: {known})")
        if reference.version is None:
            return ModelReference(reference.name, versions[-1])
        if reference.version not in versions:
            raise ModelNotFoundError(f"{reference}: published versions are {', '.join(map(str, versions))}")
        return reference

    def open(self, reference: ModelReference) -> PublishedVersion:
        """Read the manifest of a version (``latest`` is resolved first).

        Raises:
            ModelNotFoundError: no such version.
            VersionRefusedError: the manifest is broken or belongs to another name or version.
        """
        exact = self.resolve(reference)
        directory = self.root / exact.name / str(exact.version)
        try:
            manifest = Manifest.loads((directory / MANIFEST_FILE).read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(map(str, first["loc"]))
            raise VersionRefusedError(f"{directory / MANIFEST_FILE}: {path}: {first['msg']}") from None
        except OSError as error:
            raise VersionRefusedError(f"{directory / MANIFEST_FILE}: {error.strerror}") from None
        if (manifest.name, manifest.version) != (exact.name, exact.version):
            raise VersionRefusedError(f"{directory}: the manifest is of {manifest.name}@{manifest.version}")
        return PublishedVersion(directory, manifest)

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """A new hidden directory beside the versions, removed unless ``publish`` renamed it away."""
        ModelReference.parse(f"{name}@latest")
        directory = self.root / name / f".staged-{uuid.uuid4().hex}"
        directory.mkdir(parents=True)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def publish(self, staged: Path, manifest_of: Callable[[int, tuple[ArtifactFile, ...]], Manifest]) -> Manifest:
        """Turn a staged directory into the next version: hash and sync files, write the manifest last, rename.

        ``manifest_of(version, files)`` builds the manifest for the version number that is tried. A number that another
        publisher took first, or that some unpublished folder holds, is passed over.

        Raises:
            StagedRefusedError: a link or a folder among the files.
        """
        files = tuple(_artifact_file(path) for path in sorted(staged.iterdir()) if path.name != MANIFEST_FILE)
        for file in files:
            _sync(staged / file.name)
        version = max(self.versions(staged.parent.name), default=0) + 1
        while True:
            manifest = manifest_of(version, files)
            _write_synced(staged / MANIFEST_FILE, manifest.dumps())
            _sync(staged)
            target = staged.parent / str(version)
            try:
                staged.rename(target)
            except OSError:
                if not target.exists():
                    raise
                version += 1
                continue
            _sync(staged.parent)
            return manifest


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _artifact_file(path: Path) -> ArtifactFile:
    if path.is_symlink() or not path.is_file():
        raise StagedRefusedError(f"{path}: only plain files can be published")
    return ArtifactFile(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
