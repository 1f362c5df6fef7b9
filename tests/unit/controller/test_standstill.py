"""When the same commits wait for acknowledgements for a while, a nudge is due; ever more rarely if it does not help."""

from __future__ import annotations

import msgspec

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation, SemiSync
from raftctl.controller.standstill import APPLIER_SECONDS, ApplierStandstill, Standstill

UUID = "aaaaaaaa-0000-0000-0000-000000000001"


def waiting(*, owned: str, sessions: int = 1) -> MySQLObservation:
    return MySQLObservation(
        server_uuid=UUID,
        server_id=1,
        version="9.7.4",
        uptime_seconds=100,
        read_only=False,
        super_read_only=False,
        offline_mode=False,
        gtid_owned=GTIDSet.parse(owned),
        gtid_executed=GTIDSet(),
        gtid_purged=GTIDSet(),
        gtid_received=GTIDSet(),
        channel=None,
        semi_sync=SemiSync(
            source_enabled=True,
            source_status=True,
            required_acks=1,
            wait_sessions=sessions,
            clients=1,
            replica_enabled=False,
            replica_status=False,
        ),
    )


def test_commits_that_come_and_go_are_no_standstill() -> None:
    standstill = Standstill()
    for second in range(10):
        standstill.note(waiting(owned=f"{UUID}:{second + 1}"), float(second))
        assert not standstill.is_due(float(second))


def test_the_same_commit_for_a_second_is_one() -> None:
    standstill = Standstill()
    standstill.note(waiting(owned=f"{UUID}:1"), 0.0)
    standstill.note(waiting(owned=f"{UUID}:1-3"), 0.5)  # others queue behind it
    assert not standstill.is_due(0.9)
    assert standstill.is_due(1.0)


def test_nudges_that_do_not_help_become_rare() -> None:
    standstill = Standstill()
    standstill.note(waiting(owned=f"{UUID}:1"), 0.0)
    standstill.nudged(1.0)
    standstill.note(waiting(owned=f"{UUID}:1-2"), 2.0)
    assert not standstill.is_due(2.0)
    assert standstill.is_due(3.0)


def test_progress_ends_it() -> None:
    standstill = Standstill()
    standstill.note(waiting(owned=f"{UUID}:1"), 0.0)
    standstill.note(waiting(owned="", sessions=0), 0.5)
    assert not standstill.is_due(100.0)


def test_no_answer_is_no_standstill() -> None:
    standstill = Standstill()
    standstill.note(waiting(owned=f"{UUID}:1"), 0.0)
    standstill.note(None, 0.5)
    assert not standstill.is_due(100.0)


def received(*, executed: str) -> MySQLObservation:
    replica = waiting(owned="", sessions=0)
    received = GTIDSet.parse(f"{UUID}:1-9")
    return msgspec.structs.replace(replica, gtid_executed=GTIDSet.parse(executed), gtid_received=received)


def test_an_applier_that_applies_does_not_stand_still() -> None:
    standstill = ApplierStandstill()
    for second in range(1, 9):
        standstill.note(received(executed=f"{UUID}:1-{second}"), 10.0 * second)
        assert not standstill.is_due(10.0 * second)


def test_one_that_has_applied_nothing_for_a_while_does() -> None:
    standstill = ApplierStandstill()
    standstill.note(received(executed=f"{UUID}:1-5"), 1.0)
    standstill.note(received(executed=f"{UUID}:1-5"), 1.0 + APPLIER_SECONDS)
    assert standstill.is_due(1.0 + APPLIER_SECONDS)


def test_one_that_has_nothing_to_apply_does_not() -> None:
    standstill = ApplierStandstill()
    standstill.note(received(executed=f"{UUID}:1-5"), 1.0)
    standstill.note(received(executed=f"{UUID}:1-9"), 2.0)
    assert not standstill.is_due(100.0)
    standstill.note(None, 3.0)
    assert not standstill.is_due(100.0)
