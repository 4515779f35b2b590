from __future__ import annotations

import os
import time

import pytest

from loadtest.cpu import CpuPoint, CpuSampler, CpuTimeline


def test_cores_in_use_are_the_slope_between_two_moments():
    points = [CpuPoint(0.0, 0.0, 5.0, 9.0), CpuPoint(1.0, 0.5, 6.0, 11.0), CpuPoint(3.0, 2.5, 7.0, 15.0)]
    busy = CpuTimeline(points, watches_service=True).busy(0.5, 2.0)
    # Between the points use grows evenly: 0.25 to 1.5, 5.5 to 6.5, 10 to 13 seconds.
    assert (busy.generator, busy.service, busy.machine) == pytest.approx((1.25 / 1.5, 1.0 / 1.5, 3.0 / 1.5))


def test_moments_beyond_the_points_are_cut_and_too_few_points_tell_nothing():
    points = [CpuPoint(10.0, 0.0, 0.0, 0.0), CpuPoint(12.0, 1.0, 9.0, 2.0)]
    assert CpuTimeline(points).busy(0.0, 99.0).generator == pytest.approx(0.5)
    assert CpuTimeline(points).busy(0.0, 99.0).service is None
    assert CpuTimeline(points).busy(20.0, 30.0) is None
    assert CpuTimeline(points[:1]).busy(0.0, 99.0) is None


def test_work_of_a_process_is_seen():
    sampler = CpuSampler(os.getpid(), os.getpid())
    sampler.sample()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    sampler.sample()
    before, after = sampler.timeline().points
    assert after.generator_s - before.generator_s >= 0.03
    assert after.service_s - before.service_s >= 0.03
    assert after.machine_s > before.machine_s
