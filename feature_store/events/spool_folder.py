"""Numbered spool folders under one root: each worker process has one of its own, and takes over what dead ones left."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

from feature_store.errors import SpoolFailedError, SpoolLockedError
from feature_store.events.spool import Spool, SpoolRule

_FOLDER = re.compile(r"spool-([1-9][0-9]{0,5})")
_MAX_FOLDERS = 1000
_log = logging.getLogger("rankline.spool")


async def open_spool(root: Path, rule: SpoolRule) -> Spool:
    """Open the first folder ``spool-<n>`` that is free and sound, or make the next one.

    Raises:
        SpoolFailedError: the disk refuses a new one, or there are a thousand folders.
    """
    numbers = await asyncio.to_thread(_numbers, root)
    following = max(numbers, default=0) + 1
    for number in [*numbers, *range(following, _MAX_FOLDERS + 1)]:
        try:
            return await Spool.open(root / f"spool-{number}", rule)
        except SpoolLockedError:
            continue  # a new one, too: another process was faster
        except SpoolFailedError as error:
            if number >= following:
                raise
            _log.error("spool folder not opened", extra={"spool": f"spool-{number}", "reason": str(error)})
    raise SpoolFailedError(f"there are {_MAX_FOLDERS} spool folders, none of them free")


async def adopt_orphans(root: Path, rule: SpoolRule, own: Spool) -> list[Spool]:
    """Open every other folder that no process uses and that holds records; the caller drains and closes them.

    Applied ones count: should the store lose them, somebody must still have them. A folder that cannot be opened is logged and
    left.

    Raises:
        SpoolFailedError: the root cannot be listed.
    """
    adopted: list[Spool] = []
    try:
        for number in await asyncio.to_thread(_numbers, root):
            orphan = await _orphan(root / f"spool-{number}", rule, own)
            if orphan is not None:
                adopted.append(orphan)
    except BaseException:
        for spool in adopted:
            await spool.close()
        raise
    return adopted


async def _orphan(directory: Path, rule: SpoolRule, own: Spool) -> Spool | None:
    if directory.name == own.directory.name:
        return None
    try:
        spool = await Spool.open(directory, rule)
    except SpoolLockedError:
        return None
    except SpoolFailedError as error:
        _log.error("spool folder not opened", extra={"spool": directory.name, "reason": str(error)})
        return None
    if spool.oldest <= spool.durable:
        return spool
    await spool.close()
    return None


def _numbers(root: Path) -> list[int]:
    try:
        names = [_FOLDER.fullmatch(entry.name) for entry in root.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpoolFailedError(f"the spool folders cannot be listed: {error.strerror}") from error
    return sorted(int(name[1]) for name in names if name is not None)
