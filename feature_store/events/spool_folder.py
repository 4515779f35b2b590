"""Numbered spool folders under one root: each worker process has one of its own, and takes over what dead ones left."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from feature_store.errors import SpoolFailedError, SpoolForeignError, SpoolLockedError
from feature_store.events.spool import Spool, SpoolRule
from feature_store.events.spool_foreign import ForeignSpools, foreign_spools
from feature_store.events.spool_segment import segment_firsts
from feature_store.events.spool_state import is_locked, read_store
from feature_store.events.spool_thread import on_own_thread
from feature_store.store_identity import is_same_store

_FOLDER = re.compile(r"spool-([1-9][0-9]{0,5})")
_MAX_FOLDERS = 1000
_log = logging.getLogger("rankline.spool")


class SpoolFolders:
    """The folders ``spool-<n>`` for one store (its fingerprint; empty: no matter which).

    Those of other stores are told once, and left; ``foreign`` counts them, as of the last ``adopt``.
    """

    def __init__(self, root: Path, rule: SpoolRule, store: str = "") -> None:
        self._root = root
        self._rule = rule
        self._store = store
        self._told: set[tuple[str, str]] = set()
        self._left: set[str] = set()
        self.foreign = ForeignSpools()

    async def open(self) -> Spool:
        """Open the first folder that is free, sound and of this store, or make the next one.

        Raises:
            SpoolFailedError: the disk refuses a new one, or there are a thousand folders.
        """
        numbers = await on_own_thread(self._numbers)
        following = max(numbers, default=0) + 1
        for number in [*numbers, *range(following, _MAX_FOLDERS + 1)]:
            spool = await self._open(f"spool-{number}", is_new=number >= following)
            if spool is not None:
                return spool
        raise SpoolFailedError(f"there are {_MAX_FOLDERS} spool folders, none of them free")

    async def adopt(self) -> list[Spool]:
        """Open every folder that no process uses and that holds records; the caller drains and closes them.

        Only what was left already at the last call: a worker that starts anew in a dead one's place comes first. Applied
        records count: should the store lose them, somebody must still have them. A folder that cannot be opened is left.

        Raises:
            SpoolFailedError: the root cannot be listed.
        """
        adopted: list[Spool] = []
        left = await on_own_thread(self._abandoned)
        try:
            for name in left:
                spool = await self._open(name) if name in self._left else None
                if spool is not None:
                    adopted.append(spool)
        except BaseException:
            for spool in adopted:
                await spool.close()
            raise
        self._left = set(left)
        return adopted

    async def _open(self, name: str, *, is_new: bool = False) -> Spool | None:
        try:
            return await Spool.open(self._root / name, self._rule, store=self._store)
        except SpoolLockedError:
            return None  # a new one, too: another process was faster
        except SpoolForeignError:
            self._tell_foreign(name)
        except SpoolFailedError as error:
            if is_new:
                raise
            self._tell(name, "spool folder not opened", str(error))
        return None

    def _abandoned(self) -> list[str]:
        names: list[str] = []
        foreign: list[Path] = []
        for name in (f"spool-{number}" for number in self._numbers()):
            try:
                if is_locked(self._root / name) or not segment_firsts(self._root / name):
                    continue
                if self._is_foreign(name):
                    self._tell_foreign(name)
                    foreign.append(self._root / name)
                    continue
            except OSError as error:
                self._tell(name, "spool folder not opened", error.strerror or str(error))
            else:
                names.append(name)
        self.foreign = foreign_spools(foreign)
        return names

    def _is_foreign(self, name: str) -> bool:
        noted = read_store(self._root / name) if self._store else None
        return noted is not None and not is_same_store(noted, self._store)

    def _tell_foreign(self, name: str) -> None:
        self._tell(name, "spool folder left alone", "it holds events of another store")

    def _tell(self, name: str, what: str, reason: str) -> None:
        """Once for each folder and reason: it is looked at again and again."""
        if (name, reason) not in self._told:
            self._told.add((name, reason))
            _log.error(what, extra={"spool": name, "reason": reason})

    def _numbers(self) -> list[int]:
        try:
            names = [_FOLDER.fullmatch(entry.name) for entry in self._root.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SpoolFailedError(f"the spool folders cannot be listed: {error.strerror}") from error
        return sorted(int(name[1]) for name in names if name is not None)
