"""``python -m loadtest.peers install [NAME ...]``: make the peers' environments, as ``make bench-peers-install`` does."""

from __future__ import annotations

import argparse
import sys

from loadtest.peers.start import PEERS, PeerFailedError, install


def main() -> int:
    """Install; those that can be had are installed although others cannot."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.peers")
    parser.add_argument("command", choices=["install"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; all without one")
    failed = 0
    names = parser.parse_args().names or list(PEERS)
    if unknown := set(names) - PEERS.keys():
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    for name in names:
        try:
            install(name)
            print(f"{name}: installed")
        except PeerFailedError as error:
            failed += 1
            print(error, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
