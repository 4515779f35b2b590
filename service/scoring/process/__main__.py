"""``python -m service.scoring.process``: the scorer process, started by ``ScorerSupervisor``, which hands down two sockets."""

from __future__ import annotations

import argparse
import gc
import signal
import socket

from service.logs import configure_logs
from service.scoring.process.loading import version_opener
from service.scoring.process.scorer_loop import ScorerLoop
from service.scoring.process.settings import ScorerSettings


def main() -> None:
    """Serve until the supervisor is gone."""
    parser = argparse.ArgumentParser(prog="python -m service.scoring.process", description=__doc__)
    parser.add_argument("--listener", type=int, required=True, help="descriptor of the socket where front-ends connect")
    parser.add_argument("--supervisor", type=int, required=True, help="descriptor of the socket of the supervisor")
    parser.add_argument("--settings", required=True, help="JSON")
    arguments = parser.parse_args()
    settings = ScorerSettings.loads(arguments.settings)
    # The terminal's Ctrl-C, a group's SIGHUP and an init system's SIGTERM go to every process: front-ends that drain still
    # need their scorer. It ends with its supervisor.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    configure_logs(settings.log_level)
    gc.collect()
    gc.freeze()
    ScorerLoop(
        socket.socket(fileno=arguments.listener),
        socket.socket(fileno=arguments.supervisor),
        version_opener(settings),
        batch_rows=settings.batch_rows,
    ).run()


if __name__ == "__main__":
    main()
