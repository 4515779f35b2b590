"""How fine the times of events are: the unit of the table's time column by default, or finer, never coarser."""

import pytest
from pydantic import ValidationError

from feature_store.event_types import Events

TYPES = [{"name": "click"}]
STEPS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@pytest.mark.parametrize("unit", STEPS)
def test_by_default_times_are_whole_units(unit):
    assert Events(types=TYPES, time_unit=unit).resolution_us == STEPS[unit]


@pytest.mark.parametrize("unit", STEPS)
@pytest.mark.parametrize("resolution", STEPS)
def test_a_resolution_is_the_unit_or_finer(unit, resolution):
    if STEPS[resolution] <= STEPS[unit]:
        assert Events(types=TYPES, time_unit=unit, time_resolution=resolution).resolution_us == STEPS[resolution]
    else:
        with pytest.raises(ValidationError, match=f"time_resolution {resolution} is coarser than time_unit {unit}"):
            Events(types=TYPES, time_unit=unit, time_resolution=resolution)
