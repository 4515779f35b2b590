"""Labels are capped: nobody can add series at will; what an answer was made without is counted by field and reason."""

import contextlib
from types import SimpleNamespace

import msgspec
import pytest

from service.metric_labels import MAX_LABEL_VALUES, OTHER, CappedLabel
from service.ranking.query import Answer, Freshness, ModelUsed
from service.telemetry import RequestMetrics, Telemetry


def test_values_beyond_the_cap_count_as_other():
    label = CappedLabel()
    values = [label(f"model-{number}") for number in range(MAX_LABEL_VALUES + 50)]
    assert len(set(values)) == MAX_LABEL_VALUES + 1
    assert values[-1] == OTHER
    assert label("model-0") == "model-0"


def test_models_that_left_are_no_longer_shown():
    telemetry = Telemetry()
    telemetry.state_changed([("din", "1", "d", "cpu")], 1, stale=False)
    telemetry.state_changed([("din", "2", "e", "cpu")], 2, stale=True)
    text = telemetry.render().decode()
    assert 'version="2"' in text
    assert 'version="1"' not in text
    assert "rankline_plan_generation 2.0" in text
    assert "rankline_plan_stale 1.0" in text


def answer(**freshness):
    told = dict.fromkeys((field.name for field in msgspec.structs.fields(Freshness)), None)
    told.update({"user_known": True, "unknown_candidates": 0, "missing": (), "stale": (), "refused": (), **freshness})
    return Answer([], "ctr", None, ModelUsed("m", 1, "d"), (), 1, Freshness(**told), None, {})


def counted(telemetry):
    """Counts by field and status."""
    telemetry.carry()
    (metric,) = telemetry.missing.collect()
    return {(each.labels["field"], each.labels["status"]): each.value for each in metric.samples}


def test_fields_are_counted_by_why_they_had_no_value():
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.answered(answer(missing=("age", "town"), stale=("price",), refused=("mood",)), 1)
    telemetry.answered(answer(stale=("age",)), 1)
    assert counted(telemetry) == {
        ("age", "missing"): 2,
        ("town", "missing"): 2,
        ("price", "stale"): 2,
        ("mood", "refused"): 2,
        ("age", "stale"): 1,
    }


def test_of_a_store_that_was_not_asked_nothing_is_counted_as_missing_but_cached_items_can_be_stale():
    telemetry = Telemetry()
    telemetry.answered(answer(user_known=None, missing=("age",), stale=("price",)), 1)
    assert counted(telemetry) == {("price", "stale"): 1}


@pytest.mark.parametrize("status", ["missing", "stale", "refused"])
def test_fields_beyond_the_cap_count_as_other_in_every_status(status):
    telemetry = Telemetry()
    for number in range(MAX_LABEL_VALUES + 50):
        telemetry.answered(answer(**{status: (f"field-{number}",)}), 1)
    assert len(counted(telemetry)) == MAX_LABEL_VALUES + 1
    assert counted(telemetry)[OTHER, status] == 50


async def exchanged(telemetry, scope, messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if not messages:
            raise RuntimeError("no answer")

    sent = []

    async def send(message):
        sent.append(message)

    with contextlib.suppress(RuntimeError):
        await RequestMetrics(app, telemetry)(scope, None, send)
    assert sent == list(messages)
    return [line for line in telemetry.render().decode().splitlines() if line.startswith("rankline_request")]


START = {"type": "http.response.start", "status": 429}


@pytest.mark.parametrize(
    ("scope", "messages", "labels"),
    [
        ({"method": "POST", "route": SimpleNamespace(path="/rank")}, [START], 'method="POST",route="/rank",status="429"'),
        ({"method": "BREW"}, [START, {"type": "http.response.body"}], 'method="other",route="other",status="429"'),
        ({"method": "GET", "route": None}, [], 'method="GET",route="other",status="0"'),
    ],
)
async def test_requests_are_counted_by_route_template_method_and_status(scope, messages, labels):
    shown = await exchanged(Telemetry(), {"type": "http", **scope}, messages)
    assert f"rankline_requests_total{{{labels}}} 1.0" in shown
    route = labels.split(",")[1]
    assert f"rankline_request_seconds_count{{{route}}} 1.0" in shown


async def test_what_is_no_request_is_passed_on_and_not_counted():
    assert "_total" not in " ".join(await exchanged(Telemetry(), {"type": "lifespan"}, [{"type": "lifespan.startup.complete"}]))


def test_queues_are_asked_at_a_scrape_and_one_that_is_gone_has_nothing_waiting():
    telemetry, waiting = Telemetry(), {"din@1": 3, "din@2": 0}
    telemetry.ask_queues(lambda: waiting)
    telemetry.queue_depth("remote@1", rows=7)

    def shown():
        return [line.split("model=")[1] for line in telemetry.render().decode().splitlines() if "queue_rows{" in line]

    assert sorted(shown()) == ['"din@1"} 3.0', '"din@2"} 0.0', '"remote@1"} 7.0']
    del waiting["din@1"]
    waiting["din@2"] = 5
    assert sorted(shown()) == ['"din@1"} 0.0', '"din@2"} 5.0', '"remote@1"} 7.0']
