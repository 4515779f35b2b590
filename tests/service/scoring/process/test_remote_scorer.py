"""A model in the scorer process answers as one in this process does, and refuses as clearly."""

import asyncio
import os
import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest

from models.repository import ModelReference
from service.scoring.batch import ScoringRequest
from service.scoring.errors import (
    DeadlinePassedError,
    ModelRefusedError,
    OverloadedError,
    ScorerClosedError,
    ScoringFailedError,
)
from service.scoring.process.region import RegionShape
from tests.service.scoring.graphs import HISTORY_LENGTH, expected_ctr, golden_arrays, npz_bytes, publish, request_of
from tests.service.scoring.process.conftest import PATIENCE_S, SHAPE, front_end, load, open_descriptors, soon
from tests.service.scoring.stand_ins import RecordingObserver


def items(count, start=0):
    return [(start + n) % 52 for n in range(count)]


async def ctr_of(remote, request, deadline=None):
    answer = await remote.submit(request, rows=request.rows, deadline=deadline or soon())
    return answer.result.values["ctr"].tolist()


@contextmanager
def stopped(supervisor):
    """A scorer that does nothing, for a moment that is too short to count as hung."""
    os.kill(supervisor.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(supervisor.pid, signal.SIGCONT)


async def test_scores_are_the_models_own_with_attention_when_asked_for(house):
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published)
        request = request_of(3, items(7), candidate=0.25, attention=True)
        answer = await remote.submit(request, rows=7, deadline=soon())
        assert answer.result.values.keys() == {"ctr", "cvr", "attention"}
        assert answer.result.values["ctr"].tolist() == expected_ctr(request).tolist()
        assert answer.result.values["attention"].shape == (7, HISTORY_LENGTH)
        assert 0 < answer.run_s < PATIENCE_S
        assert 0 <= answer.queue_s < PATIENCE_S
        plain = await remote.submit(request_of(3, items(7)), rows=7, deadline=soon())
        assert plain.result.values.keys() == {"ctr", "cvr"}


async def test_many_requests_at_once_keep_their_own_rows(house):
    """More than 200,000 rows of random sizes; each row tells whose it is."""
    choice = np.random.default_rng(5)
    sizes = choice.integers(1, 400, 1_100)
    observer = RecordingObserver()

    async def one(remote, user, count, gate):
        request = request_of(user, items(count, user))
        async with gate:
            assert await ctr_of(remote, request) == expected_ctr(request).tolist()

    async with front_end(house.supervisor.address, RegionShape(64, 8_192)) as connection:
        remote = await load(connection, house.published, observer=observer)
        gate = asyncio.Semaphore(60)
        await asyncio.gather(*(one(remote, user, int(count), gate) for user, count in enumerate(sizes)))
        assert remote.waiting_rows == 0
    assert sum(rows for _, _, rows in observer.batches) == sizes.sum() > 200_000
    assert max(requests for _, requests, _ in observer.batches) > 1


@pytest.mark.parametrize("rows", [600, 2_500])
async def test_a_request_larger_than_a_slot_is_divided_and_put_together_again(house, rows):
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published)
        request = request_of(5, items(rows), candidate=np.arange(rows), attention=True)
        answer = await remote.submit(request, rows=rows, deadline=soon())
        assert rows * 4 * (2 + HISTORY_LENGTH) > SHAPE.slot_bytes
        assert answer.result.values["ctr"].tolist() == expected_ctr(request).tolist()
        attention = request.inputs["history"] + request.inputs["candidate_numbers"]
        np.testing.assert_array_equal(answer.result.values["attention"], attention)


async def test_a_request_with_rows_wider_than_a_slot_is_refused(house):
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published)
        wide = ScoringRequest({**request_of(1, [1]).inputs, "history": np.zeros((1, 5_000), np.int32)}, 1)
        with pytest.raises(ScoringFailedError, match="one row of this request does not fit a slot of 8192 bytes"):
            await remote.submit(wide, rows=1, deadline=soon())


async def test_only_the_request_that_does_not_fit_the_graph_fails(house):
    observer = RecordingObserver()
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published, observer=observer)
        good = [request_of(user, items(9)) for user in range(6)]
        misshapen = ScoringRequest({**good[0].inputs, "user_numbers": np.zeros((2, 1), np.float32)}, 9)
        outside = request_of(1, [9_999])
        outcomes = await asyncio.gather(
            *(ctr_of(remote, request) for request in [good[0], misshapen, *good[1:4], outside, *good[4:]]),
            return_exceptions=True,
        )
        for place, message in ((1, "input user_numbers"), (5, "tiny@1: ")):
            error = outcomes.pop(place if place == 1 else place - 1)
            assert isinstance(error, ScoringFailedError)
            assert message in str(error)
        assert outcomes == [expected_ctr(request).tolist() for request in good]
        assert observer.failed == {"tiny@1": 2}


async def test_deadlines_pass_in_the_front_end_and_late_answers_are_nobodys(house):
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published)
        request = request_of(2, items(5))
        with stopped(house.supervisor):
            started = time.monotonic()
            with pytest.raises(DeadlinePassedError, match="no scores by the deadline"):
                await remote.submit(request, rows=5, deadline=started + 0.02)
            assert remote.waiting_rows == 0
        for user in range(30):
            request = request_of(user, items(5, user))
            assert await ctr_of(remote, request) == expected_ctr(request).tolist()
        with pytest.raises(DeadlinePassedError, match="before the request was queued"):
            await remote.submit(request, rows=5, deadline=time.monotonic() - 1)


async def test_a_region_without_a_free_slot_is_an_overload_until_answers_come(house):
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published)
        requests = [request_of(user, items(5)) for user in range(SHAPE.slots)]
        with stopped(house.supervisor):
            waiting = [asyncio.create_task(ctr_of(remote, request)) for request in requests]
            await asyncio.sleep(0)
            for request in (requests[0], request_of(1, items(1_500))):
                with pytest.raises(OverloadedError, match="slots of the region"):
                    await remote.submit(request, rows=request.rows, deadline=soon())
            assert remote.waiting_rows == 5 * SHAPE.slots
        assert await asyncio.gather(*waiting) == [expected_ctr(request).tolist() for request in requests]
        assert await ctr_of(remote, requests[3]) == expected_ctr(requests[3]).tolist()


class Ungatherable:
    """Rows that are gathered while they are written, and do not exist; ``spared``: writes that go well."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, rows, spared=0):
        self.rows, self.spared = rows, [None] * spared

    shape = property(lambda self: (self.rows, 1))

    def __len__(self):
        return self.rows

    def __getitem__(self, rows):
        part = Ungatherable(len(range(self.rows)[rows]))
        part.spared = self.spared
        return part

    def __array__(self, dtype=None, copy=None):
        if self.spared:
            self.spared.pop()
            return np.zeros(self.shape, np.float32)
        raise IndexError("index 99 is out of bounds")


@pytest.mark.parametrize(("rows", "spared"), [(5, 0), (1_500, 1)])
async def test_a_fault_of_gathering_is_no_overload(house, rows, spared):
    observer = RecordingObserver()
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published, observer=observer)
        request = request_of(1, items(rows))
        request = ScoringRequest({**request.inputs, "candidate_numbers": Ungatherable(rows, spared)}, rows)
        with pytest.raises(ScoringFailedError, match="index 99 is out of bounds"):
            await remote.submit(request, rows=rows, deadline=soon())
        assert remote.waiting_rows == 0
        assert observer.failed == {"tiny@1": 1}
        assert await ctr_of(remote, request_of(1, [1])) == [1000.5]


async def test_the_slot_of_a_caller_who_left_is_used_again_only_after_its_answer(house):
    async with front_end(house.supervisor.address, RegionShape(1, 8_192)) as connection:
        remote = await load(connection, house.published)
        with stopped(house.supervisor):
            left = asyncio.create_task(ctr_of(remote, request_of(1, items(5))))
            await asyncio.sleep(0)
            left.cancel()
            await asyncio.wait([left])
            with pytest.raises(OverloadedError, match="all slots"):
                await ctr_of(remote, request_of(2, items(5)))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    assert await ctr_of(remote, request_of(2, items(5))) == expected_ctr(request_of(2, items(5))).tolist()
                    break
                except OverloadedError:
                    await asyncio.sleep(0.005)


async def test_more_rows_than_may_wait_are_an_overload(house):
    async with front_end(house.supervisor.address) as connection:
        remote = await load(connection, house.published, max_queue_rows=10)
        with stopped(house.supervisor):
            first = asyncio.create_task(ctr_of(remote, request_of(1, items(8))))
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match="8 rows wait, 3 more would pass the limit of 10") as error:
                await remote.submit(request_of(1, items(3)), rows=3, deadline=soon())
            assert error.value.retry_after_s >= 0
        await first


async def test_drain_answers_what_was_accepted_and_close_fails_it(house):
    async with front_end(house.supervisor.address) as connection:
        drained, closed = await load(connection, house.published), await load(connection, house.published)
        with stopped(house.supervisor):
            kept = asyncio.create_task(ctr_of(drained, request_of(1, items(5))))
            dropped = asyncio.create_task(ctr_of(closed, request_of(1, items(5))))
            await asyncio.sleep(0)
            draining = asyncio.create_task(drained.drain())
            closed.close()
            with pytest.raises(ScorerClosedError):
                await dropped
            for remote in (drained, closed):
                with pytest.raises(ScorerClosedError):
                    await ctr_of(remote, request_of(1, items(5)))
                await asyncio.sleep(0)
            assert not draining.done()
        await draining
        assert kept.done()
        assert await kept == expected_ctr(request_of(1, items(5))).tolist()


async def test_a_version_that_fails_its_golden_rows_is_refused_by_the_scorer_with_its_reason(house):
    arrays = golden_arrays()
    arrays["output.ctr"] = arrays["output.ctr"] + 1
    wrong = publish(house.repository, "wrong", golden=npz_bytes(arrays))
    async with front_end(house.supervisor.address) as connection:
        with pytest.raises(ModelRefusedError, match="wrong@1 refused: golden rows deviate from torch's scores"):
            await load(connection, wrong)
        assert await ctr_of(await load(connection, house.published), request_of(1, [1])) == [1000.5]


async def test_a_version_that_the_scorer_cannot_find_is_refused(house):
    manifest = house.published.manifest.model_copy(update={"version": 99})
    async with front_end(house.supervisor.address) as connection:
        with pytest.raises(ModelRefusedError, match="published versions are"):
            await connection.load(manifest, max_queue_rows=9, observer=RecordingObserver(), timeout_s=PATIENCE_S)


async def test_another_graph_under_the_same_name_is_refused(house):
    files = tuple(file.model_copy(update={"sha256": "0" * 64}) for file in house.published.manifest.files)
    manifest = house.published.manifest.model_copy(update={"files": files})
    async with front_end(house.supervisor.address) as connection:
        with pytest.raises(ModelRefusedError, match="the scorer process holds another graph"):
            await connection.load(manifest, max_queue_rows=9, observer=RecordingObserver(), timeout_s=PATIENCE_S)


async def test_a_scorer_that_is_not_there_is_no_endless_wait(tmp_path, house):
    async with front_end(str(tmp_path / "nowhere")) as connection:
        with pytest.raises(ModelRefusedError, match="no word from the scorer process"):
            await connection.load(house.published.manifest, max_queue_rows=9, observer=RecordingObserver(), timeout_s=0.1)


async def test_a_thread_may_load(house):
    async with front_end(house.supervisor.address) as connection:
        remote, ready = await asyncio.to_thread(
            connection.load_from_thread,
            house.published.manifest,
            max_queue_rows=99,
            observer=RecordingObserver(),
            timeout_s=PATIENCE_S,
        )
        assert ready.provider == "cpu"
        assert await ctr_of(remote, request_of(1, [1])) == [1000.5]


async def test_a_version_goes_with_its_last_holder_and_can_come_again(house):
    name = "short"
    published = publish(house.repository, name)
    async with front_end(house.supervisor.address) as connection:
        remote, other = await load(connection, published), await load(connection, published)
        published.directory.rename(published.directory.with_suffix(".away"))
        del remote
        await asyncio.sleep(0.05)
        assert await ctr_of(other, request_of(1, [1])) == [1000.5]
        assert await ctr_of(await load(connection, published), request_of(1, [1])) == [1000.5]  # it is still in memory
        del other
        for _ in range(200):
            await asyncio.sleep(0.01)
            try:
                await load(connection, published)
            except ModelRefusedError:
                break
        else:
            pytest.fail("it never went")
        published.directory.with_suffix(".away").rename(published.directory)
        assert house.repository.open(ModelReference(name, 1))
        assert await ctr_of(await load(connection, published), request_of(1, [1])) == [1000.5]


async def test_connections_leave_no_descriptors_and_no_memory_behind(house):
    async def once():
        async with front_end(house.supervisor.address) as connection:
            remote = await load(connection, house.published)
            await ctr_of(remote, request_of(1, [1]))

    def in_scorer():
        return open_descriptors(house.supervisor.pid)

    await once()
    await asyncio.sleep(0.2)
    ours, its = open_descriptors(), in_scorer()
    for _ in range(10):
        await once()
    async with asyncio.timeout(PATIENCE_S):
        while open_descriptors() > ours or in_scorer() > its:  # noqa: ASYNC110 - the other process's
            await asyncio.sleep(0.02)
