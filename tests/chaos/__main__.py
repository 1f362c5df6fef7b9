"""Break a cluster at random for a while, and prove that nothing acknowledged was lost.

`python -m tests.chaos --minutes 10 --seed 7`, as root: it makes network namespaces of its own and leaves none behind.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Plan, Run, summary, tell


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="what the nemesis and the clients do depends on it [random]")
    parser.add_argument("--nodes", type=int, default=3, help="members with a MySQL server")
    parser.add_argument("--witnesses", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a cluster setting")
    parser.add_argument("--no-disks", action="store_true", help="where no file system on a loop device can be mounted")
    parser.add_argument("--directory", type=Path, help="an empty or new one for the journals; kept [a temporary one]")
    options = parser.parse_args()
    plan = Plan(
        seed=random.randrange(10**6) if options.seed is None else options.seed,
        minutes=options.minutes,
        nodes=options.nodes,
        witnesses=options.witnesses,
        settings=tuple(options.set),
        disks=not options.no_disks,
    )
    directory = options.directory or Path(tempfile.mkdtemp(prefix="rc-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    tell(f"{plan.command}, in {directory}")
    result = Run(plan, directory, tell).run()
    print(summary(result, directory))
    if not result.violations and options.directory is None:
        shutil.rmtree(directory)
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
