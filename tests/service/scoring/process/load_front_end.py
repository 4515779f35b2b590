"""A front-end as a process of its own, at full speed until it is killed: ``python -m ...load_front_end ADDRESS MODELS``."""

import asyncio
import sys
from pathlib import Path

from models.repository import ModelReference, ModelRepository
from tests.service.scoring.graphs import expected_ctr, request_of
from tests.service.scoring.process.conftest import front_end, load, soon


async def work(remote, user):
    request = request_of(user, range(40))
    while True:
        answer = await remote.submit(request, rows=40, deadline=soon())
        if answer.result.values["ctr"].tolist() != expected_ctr(request).tolist():
            sys.exit("a wrong row")


async def main(address, models):
    async with front_end(address) as connection:
        remote = await load(connection, ModelRepository(Path(models)).open(ModelReference("tiny", 1)))
        print("working", flush=True)  # noqa: T201
        await asyncio.gather(*(work(remote, user) for user in range(6)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
