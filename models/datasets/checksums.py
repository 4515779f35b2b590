"""MD5 sums of the public files whose numbers are quoted: a differing file converts, but its results are its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

KNOWN_MD5 = {
    "ratings.csv": "8f6b38363ed0bc085518fa1f9f47fddd",
    "users.dat": "681c0711d0d4548cd3d4718a49c2dcd8",
    "movies.dat": "ef9fd9ff8d1b33faf73e2122c371e910",
    "ml-100k.inter": "a8a8c3f165aedc53f63b5dc0a0463b14",
    "ml-100k.item": "fb748e97e64d9a35421d06d7083d0959",
    "ml-100k.user": "ac50ecbab626dbefa83288a3593f92ab",
}


def unexpected_checksums(source: Path, names: Iterable[str]) -> list[str]:
    """A note for each file whose content is not the one that published results were measured on."""
    notes = []
    for name in names:
        with (source / name).open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != KNOWN_MD5[name]:
            notes.append(f"warning: {name} has MD5 {found}, not {KNOWN_MD5[name]}: results will not be comparable")
    return notes
