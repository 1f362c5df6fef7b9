"""Earlier passwords end only when controller, guard and replica of every host use the new ones."""

from __future__ import annotations

import msgspec
import pytest

from raftctl.bootstrap.password_rotation import who_is_late
from raftctl.cluster.facts import MemberFacts
from raftctl.cluster.observation import ReceiverState
from tests.support.member_facts import healthy

NEW = "print of the new ones"


def using(name: str, **changes: object) -> MemberFacts:
    """A member that uses the new secrets in every way but for `changes`."""
    return msgspec.structs.replace(healthy()[name], **{"secrets": NEW, "guard_secrets": NEW, **changes})


def with_receiver(facts: MemberFacts, state: ReceiverState, error: str = "") -> MemberFacts:
    mysql = facts.report.mysql
    assert mysql is not None
    assert mysql.observation is not None
    assert mysql.observation.channel is not None
    channel = msgspec.structs.replace(mysql.observation.channel, receiver=state, receiver_error=error)
    mysql = msgspec.structs.replace(mysql, observation=msgspec.structs.replace(mysql.observation, channel=channel))
    return msgspec.structs.replace(facts, report=msgspec.structs.replace(facts.report, mysql=mysql))


@pytest.mark.parametrize("name", ["db1", "db2"])
def test_nobody_is_late(name: str) -> None:
    assert who_is_late(using(name), NEW, with_guard=True) == ""


@pytest.mark.parametrize("says", ["", "print of earlier ones"])
def test_the_controller_or_its_guard_is_late(says: str) -> None:
    assert "its controller" in who_is_late(using("db1", secrets=says), NEW, with_guard=True)
    assert "its guard" in who_is_late(using("db1", guard_secrets=says), NEW, with_guard=True)


def test_a_witness_has_no_guard() -> None:
    assert who_is_late(using("db1", guard_secrets=""), NEW, with_guard=False) == ""


def test_replication_is_late() -> None:
    assert "an earlier password" in who_is_late(using("db2", password_in_use=False), NEW, with_guard=True)


@pytest.mark.parametrize("state", [ReceiverState.OFF, ReceiverState.CONNECTING])
def test_a_replica_that_was_told_and_is_not_let_in_is_late(state: ReceiverState) -> None:
    refused = with_receiver(using("db2"), state, "Access denied")
    assert "Access denied" in who_is_late(refused, NEW, with_guard=True)
