"""Run simulated Raft clusters: `python -m tests.simulation --seeds 0:1000`, or replay one: `--seed 42 --trace`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
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
    print(f"{total('changes')} membership changes, {total('forced')} forced, {total('snapshots')} snapshots installed")
    print(f"recovery in election timeouts: median {recoveries[len(recoveries) // 2]:.2f}, worst {recoveries[-1]:.2f}")


def attempt(seed: int) -> Outcome | str:
    """What the run did, or how it failed."""
    try:
        return simulate(seed)
    except AssertionError as error:
        return f"{traceback.format_exc(limit=-4)}seed {seed}: {error}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", default="0:200", help="a range, first:end")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every event")
    options = parser.parse_args()
    if options.seed is not None:
        simulate(options.seed, trace=options.trace)
        return 0
    first, end = (int(part) for part in options.seeds.split(":"))
    began = time.monotonic()
    outcomes = []
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        # In order, so that the first failure is the same for however many processes.
        for seed, outcome in enumerate(pool.imap(attempt, range(first, end), chunksize=4), start=first):
            if isinstance(outcome, str):
                print(f"{outcome}\nreplay: python -m tests.simulation --seed {seed} --trace")
                return 1
            outcomes.append(outcome)
    report(outcomes, time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
