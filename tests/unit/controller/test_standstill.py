"""When the same commits wait for acknowledgements for a while, a nudge is due; ever more rarely if it does not help."""

from __future__ import annotations

import msgspec

from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation, SemiSync
from raftctl.controller.standstill import (
    APPLIER_REST_SECONDS,
    APPLIER_REST_SECONDS_MAX,
    APPLIER_SECONDS,
    ApplierRest,
    ApplierStandstill,
    Standstill,
)
from tests.support.planner_builders import a_channel, a_replica

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


FAILED = a_replica(channel=a_channel(applier_running=False, applier_error_code=1317))
RUNNING = a_replica()


def test_an_applier_that_fails_again_and_again_rests_longer_each_time() -> None:
    rest, now, pauses = ApplierRest(), 0.0, []
    for _ in range(6):
        rest.note(FAILED, now)
        begun = now
        while not rest.is_over(now):
            now += 0.5
        pauses.append(now - begun)
        rest.tried(now)
        rest.note(RUNNING, now + 0.1)
        assert not rest.is_over(now + 1000.0), "it runs"
    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_one_that_cannot_even_be_started_is_not_tried_all_the_time() -> None:
    rest = ApplierRest()
    rest.note(FAILED, 0.0)
    rest.tried(APPLIER_REST_SECONDS)
    rest.note(FAILED, APPLIER_REST_SECONDS)
    assert not rest.is_over(2 * APPLIER_REST_SECONDS)
    assert rest.is_over(3 * APPLIER_REST_SECONDS)


def test_a_long_time_without_an_error_is_a_new_beginning() -> None:
    rest = ApplierRest()
    rest.note(FAILED, 0.0)
    rest.tried(5.0)
    rest.note(RUNNING, 6.0)
    rest.note(RUNNING, 6.0 + APPLIER_REST_SECONDS_MAX)
    rest.note(FAILED, 100.0)
    assert rest.is_over(100.0 + APPLIER_REST_SECONDS)


def test_one_that_was_stopped_without_an_error_needs_no_rest() -> None:
    rest = ApplierRest()
    rest.note(a_replica(channel=a_channel(applier_running=False)), 0.0)
    assert not rest.is_over(1000.0)
