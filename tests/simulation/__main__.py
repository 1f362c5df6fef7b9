"""Run simulated clusters: `python -m tests.simulation --seeds 0:1000`, or replay one: `--seed 42 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.schedule import simulate


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
    took = time.monotonic() - began
    recoveries = sorted(outcome.recovery for outcome in outcomes)
    print(
        f"{len(outcomes)} seeds, {sum(o.steps for o in outcomes)} steps, "
        f"{sum(o.virtual_seconds for o in outcomes):.0f} virtual seconds in {took:.1f} s, "
        f"{sum(o.acknowledged for o in outcomes)} writes, {sum(o.reads for o in outcomes)} reads, "
        f"{sum(o.terms for o in outcomes)} terms; recovery in election timeouts: "
        f"median {recoveries[len(recoveries) // 2]:.2f}, worst {recoveries[-1]:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
