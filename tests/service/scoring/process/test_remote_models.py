"""A front-end's model answers as one that scores in its own process, holds no graph of its own, and heals with the scorer."""

import asyncio
import os
import signal

import numpy as np
import pytest

from service.scoring.errors import ModelRefusedError, ScoringFailedError
from service.scoring.loaded_model import LoadSettings, load_model
from service.scoring.onnx_session import OnnxSession, SessionSettings
from service.scoring.policies import BatchLimits
from service.scoring.process import remote_models
from service.scoring.process.errors import ScorerLostError
from service.scoring.process.remote_models import RemoteModels
from service.scoring.scheduler import Scheduler
from service.scoring.version_loading import LoadRule
from tests.service.scoring.graphs import GraphSpec, encoder, expected_ctr, graph_bytes, item_weights_tensor, publish, request_of
from tests.service.scoring.process.conftest import PATIENCE_S, front_end, soon
from tests.service.scoring.stand_ins import RecordingObserver

RULE = LoadRule(SessionSettings("cpu", 1))


def remote_house(connection, observer=None):
    return RemoteModels(connection, RULE, observer or RecordingObserver(), max_queue_rows=100_000, load_timeout_s=PATIENCE_S)


async def test_answers_are_those_of_a_process_that_scores_itself(house):
    inline = load_model(
        house.published, LoadSettings(RULE, BatchLimits(4_096, 65_536)), scheduler=Scheduler(), observer=RecordingObserver()
    )
    async with front_end(house.supervisor.address) as connection:
        models = remote_house(connection)
        model = await asyncio.to_thread(models.load, house.published)
        request = request_of(4, range(30), candidate=0.5, attention=True)
        here, there = await asyncio.gather(inline.score(request, soon()), model.score(request, soon()))
        assert here.scores.values.keys() == there.scores.values.keys()
        for name, array in here.scores.values.items():
            np.testing.assert_array_equal(there.scores.values[name], array)
        assert (model.provider, model.digest, model.reference) == ("cpu", inline.digest, inline.reference)
        assert await model.check_golden(soon()) == 0.0
        assert models.waiting_rows() == {"tiny@1": 0}


async def test_a_front_end_opens_no_session_of_the_graph(house, monkeypatch):
    opened = []
    monkeypatch.setattr(OnnxSession, "__init__", lambda self, *_, **__: opened.append(self))
    async with front_end(house.supervisor.address) as connection:
        await asyncio.to_thread(remote_house(connection).load, house.published)
    assert opened == []


async def test_while_the_scorer_is_away_requests_fail_at_once_and_then_it_heals(house):
    observer = RecordingObserver()
    async with front_end(house.supervisor.address) as connection:
        model = await asyncio.to_thread(remote_house(connection, observer).load, house.published)
        os.kill(house.supervisor.pid, signal.SIGKILL)
        failed = healed = 0
        async with asyncio.timeout(PATIENCE_S):
            while not healed:
                request = request_of(3, range(20))
                try:
                    scored = await model.score(request, soon())
                except ScoringFailedError:
                    failed += 1
                    await asyncio.sleep(0.005)
                else:
                    assert scored.scores.values["ctr"].tolist() == expected_ctr(request).tolist()
                    healed = failed
        assert observer.failed == {"tiny@1": failed}


async def test_a_scorer_that_dies_while_it_loads_is_asked_again(house, monkeypatch):
    async with front_end(house.supervisor.address) as connection:
        asked = []
        real = connection.load

        async def deadly(manifest, **given):
            asked.append(manifest.name)
            if len(asked) == 1:
                raise ScorerLostError("it died")
            return await real(manifest, **given)

        monkeypatch.setattr(connection, "load", deadly)
        model = await asyncio.to_thread(remote_house(connection).load, house.published)
        assert len(asked) == 2
        assert await model.check_golden(soon()) == 0.0

        async def always(manifest, **_):
            asked.append(manifest.name)
            raise ScorerLostError("it died")

        monkeypatch.setattr(connection, "load", always)
        with pytest.raises(ModelRefusedError, match="it died"):
            await asyncio.to_thread(remote_house(connection).load, house.published)
        assert len(asked) == 5


async def test_refusals_of_either_side_name_the_version_and_are_not_repeated(house):
    shifted = publish(
        house.repository, "shifted", onnx_bytes=graph_bytes(GraphSpec(weights=item_weights_tensor(np.ones(52, np.float32))))
    )
    other = publish(house.repository, "other", encoder_text=encoder().dumps().replace('"i7"', '"x7"'))
    async with front_end(house.supervisor.address) as connection:
        models = remote_house(connection)
        with pytest.raises(ModelRefusedError, match="shifted@1 refused: golden rows deviate"):
            await asyncio.to_thread(models.load, shifted)
        with pytest.raises(ModelRefusedError, match=r"other@1 refused: encoder.json: fingerprint"):
            await asyncio.to_thread(models.load, other)
        assert models.waiting_rows() == {}


async def test_a_front_end_that_reads_other_golden_answers_than_it_gets_refuses(house, monkeypatch):
    real = remote_models.open_front_end

    def otherwise(published, rule):
        version = real(published, rule)
        for each in version.golden:
            each.expected["ctr"] += 1
        return version

    monkeypatch.setattr(remote_models, "open_front_end", otherwise)
    async with front_end(house.supervisor.address) as connection:
        with pytest.raises(ModelRefusedError, match="tiny@1 refused: golden rows deviate from torch's scores"):
            await asyncio.to_thread(remote_house(connection).load, house.published)


async def test_a_model_that_nobody_holds_is_let_go_of(house):
    async with front_end(house.supervisor.address) as connection:
        models = remote_house(connection)
        model = await asyncio.to_thread(models.load, house.published)
        del model
        await asyncio.sleep(0.05)  # the load's own task ends
        assert models.waiting_rows() == {}
