"""Makes test hosts: `python -m tests.hosts start|stop|images|up|down`."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.hosts import engine, images, machines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("start", help="an engine, if none answers, and the images of hosts")
    verbs.add_parser("stop", help="the engine that `start` started")
    up = verbs.add_parser("up", help="start hosts; writes how they are reached as JSON")
    up.add_argument("network")
    up.add_argument("folder", type=Path)
    up.add_argument("hosts", help='JSON: [{"name": "db", "debian": "12"}, ...]')
    down = verbs.add_parser("down", help="take a network's hosts away")
    down.add_argument("network")
    asked = parser.parse_args()
    try:
        if asked.verb == "start":
            engine.start()
            for debian in images.SUITES:
                images.make(debian)
        elif asked.verb == "stop":
            engine.stop()
        elif asked.verb == "up":
            wanted = [
                machines.Machine(
                    **{key: one[key] for key in ("name", "debian", "memory") if key in one}
                )
                for one in json.loads(asked.hosts)
            ]
            json.dump(machines.up(asked.network, wanted, asked.folder), sys.stdout)
        else:
            machines.down(asked.network)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{error}\n{error.stderr or ''}") from None
    except RuntimeError as error:
        raise SystemExit(str(error)) from None


main()
