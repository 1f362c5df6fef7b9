"""Rule R7 without acknowledgements: while one mysqld can be written to, no other primary becomes writable.

Elections begin at once when a connection ends, so a leader may be replaced long before its contact with the majority
is old: whoever promotes waits the old lease out (`lease_is_over`), and each part of the rule is broken once to see
that it is needed. With acknowledgements nobody waits: fence reports are the proof then (rule R3, the cluster model).

RAFTCTL_LEASE_SEEDS=0-1000 runs more lives.
"""

from __future__ import annotations

import os

import pytest

from raftctl.cluster.state import ClusterState
from raftctl.planner.view import ClusterView
from tests.simulation.checks import SafetyViolation
from tests.simulation.lease_world import Rules, live

FIRST, END = (int(part) for part in os.environ.get("RAFTCTL_LEASE_SEEDS", "0-8").split("-"))


class NobodyWaits(Rules):
    """A promotion does not wait for the old lease."""

    def may_promote(self, state: ClusterState, view: ClusterView) -> bool:
        return True


class RestartForgotten(Rules):
    """The wait is for a lease, and not for what a controller that restarts makes of it."""

    def may_promote(self, state: ClusterState, view: ClusterView) -> bool:
        return view.version_seconds >= state.settings.lease_ttl + state.settings.election_timeout


class CountedFromReceipt(Rules):
    """A lease lasts from when its grant arrived."""

    def counts_from(self, *, sent: float, received: float) -> float:
        return received


@pytest.mark.parametrize("seed", range(FIRST, END))
def test_two_mysqlds_are_never_writable_at_once(seed: int) -> None:
    live(seed, seconds=60.0)


def test_primaries_do_change_hands() -> None:
    assert sum(live(seed, seconds=60.0).promotions for seed in range(3)) > 5


@pytest.mark.parametrize("rules", [NobodyWaits, RestartForgotten, CountedFromReceipt])
def test_a_broken_rule_is_noticed(rules: type[Rules]) -> None:
    for seed in range(200):
        try:
            live(seed, rules=rules())
        except SafetyViolation:
            return
    pytest.fail(f"no check noticed: {rules.__doc__}")
