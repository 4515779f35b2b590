"""Which versions are in memory: loads what a plan names beside what serves, and lets go of what no plan names any more."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from models.repository import ModelReference, ModelRepository, PublishedVersion, RepositoryError
from service.scoring.errors import ModelsUnavailableError, ScorerClosedError, ScoringError
from service.scoring.loaded_model import LoadedModel

_Models = Mapping[ModelReference, LoadedModel]


class LoadedModels:
    """The loaded versions by exact reference. Loads run one after another, on a thread, while the old versions serve.

    ``latest`` is the newest version that can serve: one that is refused stays refused for the life of the process, and the
    one before it serves. A version that a load leaves out is retired: it is dropped here, requests that hold it finish with
    it, and its memory is freed with the last of them.
    """

    def __init__(self, repository: ModelRepository, load: Callable[[PublishedVersion], LoadedModel]) -> None:
        self._repository = repository
        self._load = load
        self._loading = asyncio.Lock()
        self._active: _Models = {}
        self._refused: dict[ModelReference, str] = {}
        self._in_memory: weakref.WeakSet[LoadedModel] = weakref.WeakSet()
        self._closed = False

    @property
    def active(self) -> _Models:
        """The versions of the last load, by exact reference."""
        return MappingProxyType(self._active)

    @property
    def refused(self) -> Mapping[ModelReference, str]:
        """Versions that ``latest`` passed over, each with its reason."""
        return MappingProxyType(dict(self._refused))

    def newest(self, reference: ModelReference) -> ModelReference:
        """The exact version that a reference stands for now, refused ones left out. Reads the repository's directory.

        Raises:
            RepositoryError: there is none.
        """
        if reference.version is not None:
            return self._repository.resolve(reference)
        versions = [ModelReference(reference.name, version) for version in self._repository.versions(reference.name)]
        usable = [exact for exact in versions if exact not in self._refused]
        return usable[-1] if usable else self._repository.resolve(reference)

    @property
    def retired(self) -> tuple[LoadedModel, ...]:
        """Versions that only requests in flight still hold."""
        active = set(self._active.values())
        return tuple(model for model in self._in_memory if model not in active)

    async def load(self, references: Iterable[ModelReference]) -> _Models:
        """Make these, and only these, the active versions; the result answers to the references as they were given.

        ``latest`` is resolved now. Versions in memory are kept as they are. All or nothing: when one fails, the active
        versions stay what they were.

        Raises:
            ModelsUnavailableError: every reference that failed, with its reason.
            ScorerClosedError: ``drain`` or ``close`` was called.
        """
        wanted = tuple(dict.fromkeys(references))
        async with self._loading:
            models = await asyncio.to_thread(self._load_all, wanted, self._active)
            if self._closed:
                raise ScorerClosedError("no model is loaded any more: the process is stopping")
            self._active = {model.reference: model for model in models.values()}
            self._in_memory.update(models.values())
            return models

    async def drain(self) -> None:
        """Take nothing new anywhere; wait until every accepted request has its answer."""
        self._closed = True
        await asyncio.gather(*(model.drain() for model in self._in_memory))

    def close(self) -> None:
        """Take nothing new anywhere; fail what waits."""
        self._closed = True
        for model in self._in_memory:
            model.close()

    def _load_all(self, wanted: Iterable[ModelReference], kept: _Models) -> _Models:
        """Every wanted reference with its model, kept or new; on a thread."""
        known = dict(kept)
        models: dict[ModelReference, LoadedModel] = {}
        reasons: dict[str, str] = {}
        for reference in wanted:
            outcome = self._load_one(reference, known)
            if isinstance(outcome, str):
                reasons[str(reference)] = outcome
            else:
                models[reference] = known[outcome.reference] = outcome
        if reasons:
            raise ModelsUnavailableError(reasons)
        return models

    def _load_one(self, reference: ModelReference, known: _Models) -> LoadedModel | str:
        """The reference's model, or the reason there is none; ``latest`` tries older versions until one can serve."""
        first_reason = ""
        while True:
            try:
                exact = self.newest(reference)
            except RepositoryError as error:
                return first_reason or str(error)
            outcome = known.get(exact) or self._try_to_load(exact)
            if not isinstance(outcome, str):
                return outcome
            first_reason = first_reason or outcome
            if reference.version is not None or exact in self._refused:
                return first_reason
            self._refused[exact] = outcome

    def _try_to_load(self, exact: ModelReference) -> LoadedModel | str:
        try:
            return self._load(self._repository.open(exact))
        except (RepositoryError, ScoringError) as error:
            return str(error)
        except Exception as error:  # whatever else a broken version brings about is its reason too
            return f"{type(error).__name__}: {error}"
