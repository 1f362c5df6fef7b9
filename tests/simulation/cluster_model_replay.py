"""Run one seed of the cluster model again and tell what happened, step by step."""

from __future__ import annotations

import argparse

from tests.simulation.cluster_model_schedules import MUTATIONS
from tests.simulation.cluster_model_world import World

LINES_MAX = 80


def replay(seed: int, *, schedule: str = "", mutate: bool = False, error: AssertionError | None = None) -> str:
    """The trace's end and the violation; `schedule` names a mutation whose configuration and script are used."""
    mutation = next((m for m in MUTATIONS if m.name == schedule), None)
    world = World(seed, rules=mutation.rules() if mutation and mutate else None, focus=mutation and mutation.focus)
    world.lines = []
    try:
        world.run(mutation.script if mutation else None)
    except AssertionError as again:
        error = again
    lines = [str(world.config), *world.lines[-LINES_MAX:], repr(error)]
    command = f"python -m tests.simulation.cluster_model_replay {seed}"
    if schedule:
        command += f" --schedule {schedule}" + (" --mutate" if mutate else "")
    return "\n".join([*lines, f"replay: {command}"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--schedule", default="", choices=["", *(m.name for m in MUTATIONS)])
    parser.add_argument("--mutate", action="store_true", help="break the rule of that name as well")
    options = parser.parse_args()
    print(replay(options.seed, schedule=options.schedule, mutate=options.mutate))
