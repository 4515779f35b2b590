"""Buckets are spread evenly, and draws of different salts are independent. Seeds are fixed: red means that the hash changed."""

from __future__ import annotations

import uuid
from itertools import combinations
from random import Random

import numpy as np
import pytest

from service.experiments.bucketing import bucket_of

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: the spread of the buckets was not tested")

CELLS = 10
SIMILAR_SALTS = ("layer:rank1", "layer:rank2", "layer:rank3", "experiment:rank1", "experiment:rank2", "a", "b", "")


def _buckets(units, salt, num_buckets):
    return np.fromiter((bucket_of(unit, salt, num_buckets) for unit in units), dtype=np.int64)


def _evenness_p(buckets, num_buckets):
    return stats.chisquare(np.bincount(buckets, minlength=num_buckets)).pvalue


def _independence_p(first, second):
    table = np.bincount(first * CELLS + second, minlength=CELLS * CELLS).reshape(CELLS, CELLS)
    return stats.chi2_contingency(table).pvalue if table.any(axis=0).all() and table.any(axis=1).all() else 0.0


def _smallest_pair_p(draws):
    return min(_independence_p(first, second) for first, second in combinations(draws, 2))


def test_over_many_salts_the_p_values_of_evenness_are_themselves_even():
    p_values = np.array([_evenness_p(_buckets(range(1, 10_001), f"layer:{salt}", 100), 100) for salt in range(200)])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.01 <= np.mean(p_values < 0.05) <= 0.10
    assert p_values.min() > 1e-5


@pytest.mark.parametrize(
    "id_of",
    [
        pytest.param(lambda n, _: n, id="sequential from 1"),
        pytest.param(lambda n, _: 9_000_000_000 + 7 * n, id="10 digits, strided"),
        pytest.param(lambda _, rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)), id="uuid"),
        pytest.param(lambda n, _: f"user{n}@example.com", id="e-mail"),
        pytest.param(lambda n, _: f"用户{n}", id="CJK"),
        pytest.param(lambda n, _: f"{n:064d}", id="long common prefix"),
    ],
)
@pytest.mark.parametrize("salt", ["", "layer:ranking"])
def test_ids_of_every_kind_are_spread_evenly(id_of, salt):
    rng = Random(7)
    buckets = _buckets([id_of(n, rng) for n in range(1, 20_001)], salt, 100)
    assert _evenness_p(buckets, 100) > 0.001


def test_draws_of_similar_salts_are_pairwise_independent():
    draws = [_buckets(range(1, 20_001), salt, CELLS) for salt in SIMILAR_SALTS]
    pairs = len(SIMILAR_SALTS) * (len(SIMILAR_SALTS) - 1) / 2
    assert _smallest_pair_p(draws) > 0.05 / pairs / 10


def _fnv1a(text):
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


@pytest.mark.parametrize(
    "bad_bucket",
    [
        pytest.param(lambda unit, _: bucket_of(unit, "", CELLS), id="no salt at all"),
        pytest.param(lambda unit, salt: _fnv1a(f"{unit}{salt}") % 1000 // 100, id="FNV-1a with the salt at the end"),
        pytest.param(lambda unit, salt: (bucket_of(unit, "", CELLS) + len(salt)) % CELLS, id="salt shifts"),
    ],
)
def test_the_independence_test_catches_hashes_that_are_known_to_be_bad(bad_bucket):
    draws = [
        np.fromiter((bad_bucket(unit, salt) for unit in range(1, 20_001)), dtype=np.int64)
        for salt in ("layer:rank1", "layer:rank2", "layer:rank3")
    ]
    assert _smallest_pair_p(draws) < 1e-12
