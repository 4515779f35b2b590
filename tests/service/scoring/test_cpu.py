"""Which CPUs may be used, from made-up control groups of both versions."""

import os

import pytest

from service.scoring import cpu
from service.scoring.cpu import CgroupFiles, cgroup_quota, usable_cpus


def files(tmp_path, membership, contents):
    (tmp_path / "membership").write_text(membership)
    for name, text in contents.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return CgroupFiles(tmp_path / "membership", tmp_path / "mount")


@pytest.mark.parametrize(
    ("membership", "contents", "quota"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n", "cpu.max": "max 100000"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "150000 100000\n"}, 0.5),
        ("0::/not/visible/here\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("4:memory:/x\n3:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "70000", "cpu/x/cpu.cfs_period_us": "100000"}, 0.7),
        ("3:cpu,cpuacct:/x\n", {"cpu,cpuacct/cpu.cfs_quota_us": "400000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 4.0),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:cpu:/\n0::/\n", {"unified/cpu.max": "100000 100000"}, 1.0),
        ("3:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "2"}, None),
        ("0::/\n", {"cpu.max": "0 0\n"}, None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("0::/\n", {"cpu.max": ""}, None),
        ("no colons at all\n", {}, None),
        ("", {"cpu.max": "100000 100000"}, None),
    ],
)
def test_the_tightest_quota_counts(tmp_path, membership, contents, quota):
    assert cgroup_quota(files(tmp_path, membership, contents)) == quota


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cgroup_quota(CgroupFiles(tmp_path / "absent", tmp_path / "absent")) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"), [(8, None, 8), (8, 2.9, 2), (2, 16.0, 2), (4, 0.25, 1), (1, None, 1), (8, 1.0, 1)]
)
def test_the_affinity_is_cut_by_the_quota_and_never_below_one(monkeypatch, affinity, quota, usable):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))
    monkeypatch.setattr(cpu, "cgroup_quota", lambda files: quota)
    assert usable_cpus() == usable


def test_this_machine_gives_a_sensible_answer():
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
