"""Writes ``vectors.json`` (``python tests/golden/bucketing/make_vectors.py``) with the standard library alone.

The same seed gives the same bytes. Existing vectors are a promise to every other implementation: add cases, never change one.
"""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEED = 20_240_607
BUCKET_COUNTS = (2, 100, 1_000, 10_000, 1_000_003)
SALTS = ("", "ranking-layer", "layer:ranking", "experiment:din-vs-deepfm", ":", "a:b:", "盐", "🧂 salt", "x" * 256, " ")
INTEGERS = (
    *(0, 1, 2, 7, 9, 10, 42, 99, 100, 6_040, -1, -42, 2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**53 + 1),
    *(2**63 - 1, -(2**63), 2**63, 2**64 - 1, 10**30, -(10**30)),
)
STRINGS = (
    *("0", "-0", "00", "007", "1.0", "1e3", "true", "null", "None", " ", " 42", "42 ", "\t", "\n", "a\u0000b"),
    *(":", "a:b", "::", "user", "User", "USER", "user@example.com", "o'brien", '"quoted"', "back\\slash"),
    *("../../etc/passwd", "%2e%2e", "<b>", "用户", "ユーザー", "사용자", "北京市朝阳区"),
    *("😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "𝒜𝒷𝒸", "\U0010ffff", "\ue000", "\ufffd", "\ufeff42"),
    *("\u00e9t\u00e9", "e\u0301te\u0301", "\u212b", "\u00c5", "A\u030a", "\uac00", "\u1100\u1161"),
    *("ﬁ", "ß", "SS", "İ", "i̇", "ı", "Ω", "\u2126", "٣", "３"),
    *("مستخدم", "משתמש", "\u202eabc", "a\u200bb", "a\u00a0b", "हिन्दी", "ผู้ใช้"),
    *("0xff", "1_000", "+1", "NaN", "Infinity", "9007199254740993", "9223372036854775808"),
)
LONG = ("a" * 10_240, "日" * 3_414, "😀é" * 1_707, "0123456789" * 1_024)


def text_of(unit_id: str | int) -> str:
    """The unit's canonical text."""
    return str(unit_id)


def case(unit_id: str | int, salt: str, num_buckets: int) -> dict[str, Any]:
    """One vector, straight from the formula."""
    text = text_of(unit_id)
    digest = hashlib.md5(((salt + ":" + text) if salt != "" else text).encode("utf-8")).hexdigest()
    return {
        "type": "integer" if isinstance(unit_id, int) else "string",
        "unit_id": text,
        "salt": salt,
        "num_buckets": num_buckets,
        "md5": digest,
        "bucket": int(digest, 16) % num_buckets,
    }


def chosen_cases(rng: random.Random) -> Iterator[dict[str, Any]]:
    """The ids that are known to go wrong, each with the empty salt, a usual salt and two drawn ones."""
    for unit_id in (*INTEGERS, *STRINGS):
        for salt in ("", "layer:ranking", *rng.sample(SALTS[1:], 2)):
            yield case(unit_id, salt, rng.choice(BUCKET_COUNTS))
    for salt in SALTS:
        for num_buckets in BUCKET_COUNTS:
            yield case(42, salt, num_buckets)
            yield case("用户-😀", salt, num_buckets)
    for unit_id in LONG:
        yield case(unit_id, rng.choice(SALTS), rng.choice(BUCKET_COUNTS))


def drawn_cases(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Ids as real systems make them, and text drawn from all of Unicode but the surrogates."""
    for _ in range(120):
        yield case(rng.randint(-(2**63), 2**63 - 1), rng.choice(SALTS), rng.choice(BUCKET_COUNTS))
        yield case(rng.randint(1, 10**6), rng.choice(SALTS), rng.choice(BUCKET_COUNTS))
        yield case(str(uuid.UUID(int=rng.getrandbits(128), version=4)), rng.choice(SALTS), rng.choice(BUCKET_COUNTS))
        yield case(drawn_text(rng, rng.randint(1, 24)), rng.choice(SALTS), rng.choice(BUCKET_COUNTS))
        yield case(drawn_text(rng, rng.randint(1, 8)), drawn_text(rng, rng.randint(1, 12)), rng.choice(BUCKET_COUNTS))


def drawn_text(rng: random.Random, length: int) -> str:
    """Text of ``length`` code points."""
    planes = ((0x20, 0x7E), (0xA0, 0x2FF), (0x370, 0x1FFF), (0x3040, 0x9FFF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    return "".join(chr(rng.randint(*rng.choice(planes))) for _ in range(length))


def plain_cases(rng: random.Random) -> Iterator[dict[str, Any]]:
    """The plain split that teams run today: no salt, 100 buckets, the first 10 % treated."""
    users: list[str | int] = [*range(150), *(rng.randint(1, 2**63 - 1) for _ in range(100)), *STRINGS[:25], "用户", "😀"]
    for user_id in users:
        bucket = int(hashlib.md5(str(user_id).encode("utf-8")).hexdigest(), 16) % 100
        kind = "integer" if isinstance(user_id, int) else "string"
        yield {"type": kind, "user_id": str(user_id), "bucket": bucket, "treatment": bucket < 10}


def vectors() -> dict[str, Any]:
    """The whole file."""
    rng = random.Random(SEED)
    return {
        "format": 1,
        "formula": 'bucket = int(md5(utf8(salt + ":" + unit_id)), 16) % num_buckets; with an empty salt md5(utf8(unit_id))',
        "cases": [*chosen_cases(rng), *drawn_cases(rng)],
        "plain": list(plain_cases(rng)),
        "refused": [{"type": "string", "unit_id": "", "salt": "layer:ranking", "num_buckets": 10_000}],
    }


def rendered() -> str:
    """ASCII JSON, one case a line: editors cannot normalize it and differences read well."""
    found = vectors()
    parts = []
    for key, value in found.items():
        if isinstance(value, list):
            lines = ",\n".join(f"    {json.dumps(item)}" for item in value)
            parts.append(f'  "{key}": [\n{lines}\n  ]')
        else:
            parts.append(f'  "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    (Path(__file__).parent / "vectors.json").write_text(rendered(), encoding="ascii")
