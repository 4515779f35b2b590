"""Loading beside what serves: all or nothing, what is wanted is kept, what is not is freed with its last request."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

from models.repository import ModelReference
from service.scoring.errors import ModelsUnavailableError, ScorerClosedError
from service.scoring.loaded_models import LoadedModels
from tests.service.scoring.graphs import golden_arrays, npz_bytes, publish, request_of

A1, A2, LATEST, B1 = (ModelReference.parse(text) for text in ("a@1", "a@2", "a@latest", "b@1"))


class GatedLoad:
    """Counts loads, and holds them back while the gate is shut."""

    def __init__(self, load):
        self.load = load
        self.loads = []
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, published):
        self.started.set()
        assert self.gate.wait(30)
        self.loads.append(str(ModelReference(published.manifest.name, published.manifest.version)))
        return self.load(published)


@pytest.fixture
def gated(load):
    return GatedLoad(load)


@pytest.fixture
def models(repository, gated):
    for name in ("a", "a", "b"):
        publish(repository, name)
    return LoadedModels(repository, gated)


def soon():
    return time.monotonic() + 30


async def test_references_are_answered_as_they_were_given(models):
    loaded = await models.load([LATEST, A1, A2, A2])
    assert set(loaded) == {LATEST, A1, A2}
    assert loaded[LATEST] is loaded[A2]
    assert set(models.active) == {A1, A2}
    assert loaded[A1].version == 1


async def test_what_is_wanted_again_is_kept_and_only_the_missing_is_loaded(models, gated):
    first = await models.load([A1])
    second = await models.load([A1, B1])
    assert second[A1] is first[A1]
    assert gated.loads == ["a@1", "b@1"]


async def test_latest_follows_the_repository_at_the_next_load(models, repository):
    assert (await models.load([LATEST]))[LATEST].version == 2
    publish(repository, "a")
    assert (await models.load([LATEST]))[LATEST].version == 3


async def test_a_failing_load_changes_nothing_and_names_every_reason(models, repository, gated):
    before = await models.load([A1])
    arrays = golden_arrays()
    arrays["output.ctr"] += 1
    publish(repository, "wrong", golden=npz_bytes(arrays))
    (repository.root / "b" / "1" / "manifest.json").write_text("{}")
    references = [ModelReference.parse(text) for text in ("a@2", "wrong@1", "b@1", "none@latest", "a@9")]
    with pytest.raises(ModelsUnavailableError) as error:
        await models.load(references)
    assert set(error.value.reasons) == {"wrong@1", "b@1", "none@latest", "a@9"}
    assert "golden rows deviate" in error.value.reasons["wrong@1"]
    assert "manifest.json" in error.value.reasons["b@1"]
    assert "no published version" in error.value.reasons["none@latest"]
    assert "published versions are 1, 2" in error.value.reasons["a@9"]
    assert "wrong@1: " in str(error.value)
    assert dict(models.active) == {A1: before[A1]}
    await before[A1].score(request_of(1, [1]), soon())


async def test_whatever_breaks_a_load_is_the_reason_of_its_version(models, gated):
    def out_of_memory(published):
        raise MemoryError("cannot allocate")

    gated.load = out_of_memory
    with pytest.raises(ModelsUnavailableError, match="a@1: MemoryError: cannot allocate"):
        await models.load([A1])


async def test_the_old_version_serves_while_the_new_one_loads(models, gated):
    old = (await models.load([A1]))[A1]
    gated.gate.clear()
    gated.started.clear()
    loading = asyncio.create_task(models.load([A2]))
    await asyncio.to_thread(gated.started.wait, 30)
    for user in range(20):
        assert (await old.score(request_of(user, [2]), soon())).scores.values["ctr"].tolist() == [1000 * user + 1]
    assert set(models.active) == {A1}
    gated.gate.set()
    assert set(await loading) == {A2}


async def test_loads_run_one_after_another(models, gated):
    gated.gate.clear()
    loading = [asyncio.create_task(models.load([reference])) for reference in (A1, A1, B1)]
    await asyncio.to_thread(gated.started.wait, 30)
    gated.gate.set()
    await asyncio.gather(*loading)
    assert gated.loads == ["a@1", "b@1"]
    assert set(models.active) == {B1}


async def test_a_request_in_flight_finishes_with_its_retired_model_which_is_then_freed(models):
    old = (await models.load([A1]))[A1]
    await models.load([A2])
    assert [model.reference for model in models.retired] == [A1]
    scored = await old.score(request_of(3, [4]), soon())
    assert scored.scores.values["ctr"].tolist() == [3002.0]
    session = weakref.ref(old._forms.plain.graph)
    gc.disable()
    try:
        del old
        # The loading and scoring threads let go a moment after their results are seen.
        while models.retired or session():  # noqa: ASYNC110
            await asyncio.sleep(0)
    finally:
        gc.enable()


@pytest.mark.parametrize("point", range(6))
async def test_a_load_cancelled_anywhere_changes_nothing_and_the_next_one_works(models, gated, point):
    await models.load([A1])
    gated.gate.clear()
    loading = asyncio.create_task(models.load([B1]))
    for _ in range(point):
        await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert set(models.active) == {A1}
    gated.gate.set()
    assert set(await models.load([A1, B1])) == {A1, B1}


async def test_draining_reaches_the_retired_and_refuses_new_loads(models):
    old = (await models.load([A1]))[A1]
    new = (await models.load([A2]))[A2]
    callers = [asyncio.create_task(model.score(request_of(1, [1]), soon())) for model in (old, new) for _ in range(5)]
    await asyncio.sleep(0)
    await models.drain()
    assert len(await asyncio.gather(*callers)) == 10
    for model in (old, new):
        with pytest.raises(ScorerClosedError):
            await model.score(request_of(1, [1]), soon())
    with pytest.raises(ScorerClosedError):
        await models.load([A1])


async def test_closing_reaches_the_retired(models):
    old = (await models.load([A1]))[A1]
    new = (await models.load([A2]))[A2]
    models.close()
    for model in (old, new):
        with pytest.raises(ScorerClosedError):
            await model.score(request_of(1, [1]), soon())


async def test_closing_while_a_load_is_in_progress_lets_nothing_in(models, gated):
    old = (await models.load([A1]))[A1]
    gated.gate.clear()
    gated.started.clear()
    loading = asyncio.create_task(models.load([A2]))
    await asyncio.to_thread(gated.started.wait, 30)
    models.close()
    gated.gate.set()
    with pytest.raises(ScorerClosedError):
        await loading
    with pytest.raises(ScorerClosedError):
        await old.score(request_of(1, [1]), soon())
