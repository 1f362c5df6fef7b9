"""Run simulated clusters: `python -m tests.simulation --seeds 0:1000`, or replay one: `--seed 42 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.schedule import Outcome, simulate


def report(outcomes: list[Outcome], took: float) -> None:
    def total(field: str) -> float:
        return sum(getattr(outcome, field) for outcome in outcomes)

    recoveries = sorted(outcome.recovery for outcome in outcomes)
    print(
        f"{len(outcomes)} seeds, {total('steps')} steps, {total('virtual_seconds'):.0f} virtual seconds in {took:.1f} s"
    )
    print(f"{total('acknowledged')} writes, {total('reads')} reads, {total('terms')} terms")
    print(f"{total('changes')} membership changes, {total('snapshots')} snapshots installed")
    print(f"recovery in election timeouts: median {recoveries[len(recoveries) // 2]:.2f}, worst {recoveries[-1]:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", default="0:200", help="a range, first:end")
    parser.add_argument("--trace", action="store_true", help="print every event")
    options = parser.parse_args()
    first, end = (int(part) for part in options.seeds.split(":"))
    seeds = range(first, end) if options.seed is None else range(options.seed, options.seed + 1)
    began = time.monotonic()
    outcomes = []
    for seed in seeds:
        try:
            outcomes.append(simulate(seed, trace=options.trace))
        except AssertionError as error:
            traceback.print_exc(limit=-4)
            print(f"seed {seed}: {error}\nreplay: python -m tests.simulation --seed {seed} --trace")
            return 1
    report(outcomes, time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
