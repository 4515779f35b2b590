"""Values of a hostile event are counted before any is read, and the work between two turns of others is bounded."""

import asyncio
import itertools
import json

import pytest

from feature_store.events.event import Event
from service.api import schemas
from service.ingestion.event_rules import EventRules
from service.ingestion.event_size import MAX_EVENT_BYTES, MAX_LIST_VALUES, MAX_VALUES
from service.ingestion.event_time import TimeRule
from service.ingestion.intake import SLICE_VALUES
from service.ingestion.received import ReceivedEvent, RefusedEvent
from tests.service.ingestion.stand_ins import EVENT, House, make_app, make_views, post

NOW = 1_800_000_000.0


class Looked(list):
    """A list that counts how many of its elements are looked at, by any reader."""

    count = 0

    def __iter__(self):
        for each in super().__iter__():
            Looked.count += 1
            yield each


@pytest.fixture(autouse=True)
def _nothing_looked_at():
    Looked.count = 0


def received(context, index=0):
    return ReceivedEvent(index, f"e{index}", "u", "i", "click", context=context)


@pytest.fixture(scope="module")
def rules():
    return EventRules(make_views(), TimeRule(60.0, None))


@pytest.mark.parametrize(
    ("context", "field"),
    [
        ({"tags": Looked([1] * 500_000)}, "context.tags"),
        ({"tags": Looked([1] * (MAX_LIST_VALUES + 1))}, "context.tags"),
        ({"page": Looked([1] * (MAX_LIST_VALUES + 1))}, "context.page"),
        ({"no_field": Looked([1] * (MAX_LIST_VALUES + 1))}, "context.no_field"),
        ({f"f{place}": Looked([1] * MAX_LIST_VALUES) for place in range(MAX_VALUES // MAX_LIST_VALUES + 1)}, "context"),
        ({"tags": Looked([1]), "page": "x" * (MAX_EVENT_BYTES + 1)}, "context.page"),
    ],
)
def test_too_much_is_refused_before_any_value_is_looked_at(rules, context, field):
    refused = rules.judge(received(context), NOW)
    assert isinstance(refused, RefusedEvent)
    assert (refused.reason, [problem.field for problem in refused.problems]) == ("size", [field])
    assert Looked.count == 0


def test_what_a_ranking_may_send_in_a_list_an_event_may_bring_too():
    assert MAX_LIST_VALUES == schemas.MAX_LIST_VALUES


def test_a_list_as_long_as_allowed_is_kept(rules):
    event = rules.judge(received({"tags": Looked([1] * MAX_LIST_VALUES)}), NOW)
    assert isinstance(event, Event)
    assert event.context == {"tags": [1] * MAX_LIST_VALUES}


async def test_the_values_looked_at_between_two_turns_of_others_are_bounded():
    house = House()
    turns = [0]

    async def other():
        while True:
            turns.append(Looked.count)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await house.intake.take([received({"tags": Looked([1] * MAX_LIST_VALUES)}, place) for place in range(40)], NOW)
    task.cancel()
    assert len(house.applier.kept) == 40
    steps = [after - before for before, after in itertools.pairwise(turns)]
    assert sum(steps) == 40 * MAX_LIST_VALUES
    assert max(steps) <= SLICE_VALUES + MAX_VALUES


async def test_a_client_is_told_which_list_was_too_long():
    house = House()
    body = json.dumps({"events": [{**EVENT, "context": {"tags": [1] * 300_000}}, {**EVENT, "event_id": 2}]}).encode()
    content = (await post(make_app(house.intake, 1 << 20), body)).json()
    assert (content["accepted"], content["refused_count"]) == (1, 1)
    assert content["refused"][0]["errors"] == [
        {"field": "context.tags", "reason": f"a list of at most {MAX_LIST_VALUES:,} values is needed"}
    ]
    assert house.counted()["event", "size"] == 1
