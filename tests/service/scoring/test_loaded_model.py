"""A loaded model tells what it is, scores what it is asked, and keeps every request to itself."""

import asyncio
import math
import time

import numpy as np
import pytest

from service.scoring.batch import ScoringRequest
from service.scoring.errors import (
    DeadlinePassedError,
    ScorerClosedError,
    ScoringFailedError,
)
from tests.service.scoring.graphs import (
    ITEM_IDS,
    encoder,
    expected_ctr,
    request_of,
)


def soon():
    return time.monotonic() + 30


def test_it_knows_what_it_is(model):
    assert (model.name, model.version, str(model.reference), model.provider) == ("tiny", 1, "tiny@1", "cpu")
    assert model.score_names == ("ctr", "cvr")
    assert model.uses_history
    assert model.has_attention
    assert model.digest == model.manifest.digest
    assert model.encoder.fingerprint == encoder().fingerprint


async def test_scores_are_the_models_in_the_order_of_the_rows(model):
    request = request_of(7, [3, 1, 2], [0.25, 0.5, 0.75])
    scored = await model.score(request, soon())
    assert scored.scores.values["ctr"].tolist() == expected_ctr(request).tolist() == [7001.75, 7001.0, 7001.75]
    assert scored.scores.values["cvr"].tolist() == (-expected_ctr(request)).tolist()
    assert scored.scores.values["ctr"].dtype == np.float32
    assert scored.queue_ms >= 0
    assert scored.score_ms > 0


async def test_attention_comes_only_to_those_who_ask(model):
    asking, plain = await asyncio.gather(
        model.score(request_of(7, [1, 2], [0.0, 1.0], attention=True), soon()), model.score(request_of(8, [1]), soon())
    )
    assert asking.scores.values["attention"].tolist() == [[7.0] * 3, [8.0] * 3]
    assert set(plain.scores.values) == {"ctr", "cvr"}


async def test_concurrent_requests_share_a_run(model, observer):
    await asyncio.gather(*(model.score(request_of(user, [1, 2]), soon()) for user in range(20)))
    assert sum(requests for _, requests, _ in observer.batches) == 20
    assert len(observer.batches) < 20


@pytest.mark.parametrize("bad", [ITEM_IDS, 2**31 - 1, -1, -(2**31)])
async def test_an_id_out_of_range_fails_its_own_request_only(model, observer, bad):
    requests = [request_of(user, [1, bad] if user == 5 else [1, 2]) for user in range(32)]
    outcomes = await asyncio.gather(*(model.score(request, soon()) for request in requests), return_exceptions=True)
    poisoned = outcomes.pop(5)
    assert isinstance(poisoned, ScoringFailedError)
    assert f"item_categories, row 1, slot 0: id {bad} is not in 0..{ITEM_IDS - 1}" in str(poisoned)
    for request, scored in zip([*requests[:5], *requests[6:]], outcomes, strict=True):
        assert scored.scores.values["ctr"].tolist() == expected_ctr(request).tolist()
    assert observer.failed == {"tiny@1": 1}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
async def test_a_score_that_is_not_finite_fails_its_own_request_only(model, observer, bad):
    requests = [request_of(user, [1, 2], [0.0, bad if user == 5 else 1.0]) for user in range(16)]
    outcomes = await asyncio.gather(*(model.score(request, soon()) for request in requests), return_exceptions=True)
    poisoned = outcomes.pop(5)
    assert isinstance(poisoned, ScoringFailedError)
    assert "output ctr: 1 of 2 values are not finite" in str(poisoned)
    for request, scored in zip([*requests[:5], *requests[6:]], outcomes, strict=True):
        assert scored.scores.values["ctr"].tolist() == expected_ctr(request).tolist()
    assert observer.failed == {"tiny@1": 1}


async def test_a_request_of_the_wrong_shape_fails_by_name_and_is_counted(model, observer):
    with pytest.raises(ScoringFailedError, match="input user_numbers: missing"):
        await model.score(ScoringRequest({}, rows=1), soon())
    assert observer.failed == {"tiny@1": 1}


async def test_a_passed_deadline_is_not_scored(model, observer):
    with pytest.raises(DeadlinePassedError):
        await model.score(request_of(1, [1]), time.monotonic())
    assert observer.batches == []


async def test_the_golden_check_scores_as_any_caller_would(model, observer):
    assert await model.check_golden(soon()) == 0.0
    assert observer.batches == [("tiny@1", 1, 1)]


async def test_a_model_whose_scores_went_wrong_fails_its_golden_check(model):
    model._golden.expected["ctr"][:] += 1
    with pytest.raises(
        ScoringFailedError, match=r"tiny@1: golden rows deviate from torch's scores by 0.000499, above the tolerance of 1e-05"
    ):
        await model.check_golden(soon())


async def test_a_closed_model_takes_nothing_and_a_drained_one_has_answered(model):
    callers = [asyncio.create_task(model.score(request_of(1, [1]), soon())) for _ in range(5)]
    await asyncio.sleep(0)
    await model.drain()
    assert len(await asyncio.gather(*callers)) == 5
    with pytest.raises(ScorerClosedError):
        await model.score(request_of(1, [1]), soon())
    model.close()
    with pytest.raises(ScorerClosedError):
        await model.check_golden(soon())
