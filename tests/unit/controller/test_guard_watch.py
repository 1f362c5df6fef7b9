"""When the guard restarts its controller and when it fences: a pure decision on what it heard and the clock."""

from __future__ import annotations

import pytest

from raftctl.controller.fencing import Fenced, Rung
from raftctl.controller.guard import OWN_LADDER_SECONDS, RETRY_SECONDS, SPEAKS_SECONDS, Watch
from raftctl.controller.guard_protocol import GuardFiles, Renewal, decode, encode, note_fencing, take_fencings

TTL = 4.0


def renewal(
    *, sent: float, seconds: float = TTL, ttl: float = TTL, writable: bool = True, leaving: bool = False, pid: int = 7
) -> Renewal:
    return Renewal(pid=pid, sent=sent, seconds=seconds, ttl=ttl, writable=writable, leaving=leaving)


def watch_after(*renewals: Renewal, remembered_ttl: float = 0.0, started: float = 0.0) -> Watch:
    watch = Watch(remembered_ttl=remembered_ttl, now=started)
    for one in renewals:
        watch.heard(one, one.sent)
    return watch


def test_nothing_is_due_before_there_is_a_cluster() -> None:
    watch = watch_after(renewal(sent=1.0, ttl=0.0))
    assert not watch.fencing_is_due(1000.0)
    assert not watch.revival_is_due(1000.0)


def test_a_new_guard_gives_an_unknown_lease_its_whole_time() -> None:
    watch = watch_after(remembered_ttl=TTL, started=10.0)
    assert not watch.fencing_is_due(13.9)
    assert watch.fencing_is_due(14.0)


def test_a_silent_controller_is_restarted_before_its_lease_ends() -> None:
    watch = watch_after(renewal(sent=10.0))
    assert not watch.revival_is_due(11.3)
    assert watch.revival_is_due(11.4)
    assert not watch.fencing_is_due(13.9)
    assert watch.fencing_is_due(14.0)


def test_a_restart_is_tried_once_a_lease() -> None:
    watch = watch_after(renewal(sent=10.0))
    watch.revival_tried(12.0)
    assert not watch.revival_is_due(15.9)
    assert watch.revival_is_due(16.0)


def test_a_controller_that_was_told_to_stop_is_not_restarted_but_fenced() -> None:
    watch = watch_after(renewal(sent=10.0, leaving=True))
    assert not watch.revival_is_due(100.0)
    assert watch.fencing_is_due(14.0)


def test_a_short_lease_is_no_reason_to_restart_a_slow_controller() -> None:
    watch = watch_after(renewal(sent=10.0, seconds=0.4, ttl=0.4))
    assert not watch.revival_is_due(10.9)
    assert watch.revival_is_due(11.0)


def test_a_controller_that_speaks_fences_by_itself_first() -> None:
    watch = watch_after(renewal(sent=10.0))
    late = 14.0 + OWN_LADDER_SECONDS
    for second in range(11, 18):
        watch.heard(renewal(sent=float(second), seconds=0.0), float(second))
    assert not watch.fencing_is_due(late - 0.1)
    assert watch.fencing_is_due(late)
    assert watch_after(renewal(sent=10.0)).fencing_is_due(14.0), "a silent one gets no such time"


def test_a_restarted_controller_does_not_prolong_its_former_lease() -> None:
    watch = watch_after(renewal(sent=10.0), renewal(sent=12.0, seconds=0.0, pid=8))
    assert watch.fencing_is_due(14.0 + SPEAKS_SECONDS)
    assert watch.pid == 8


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    """A guard that was frozen finds old renewals in its socket."""
    watch = Watch(remembered_ttl=TTL, now=0.0)
    watch.heard(renewal(sent=1.0), 30.0)
    assert watch.fencing_is_due(30.0)
    assert watch.revival_is_due(30.0)


def test_a_renewal_from_the_future_is_not_believed() -> None:
    watch = Watch(remembered_ttl=TTL, now=0.0)
    watch.heard(renewal(sent=1000.0, seconds=1000.0), 1.0)
    assert watch.fencing_is_due(5.0)


def test_an_older_renewal_shortens_nothing() -> None:
    watch = watch_after(renewal(sent=10.0), renewal(sent=9.0, seconds=1.0))
    assert not watch.fencing_is_due(13.9)


def test_fencing_goes_on_until_the_lease_is_back() -> None:
    watch = watch_after(renewal(sent=10.0))
    watch.fencing_tried(14.0)
    assert not watch.fencing_is_due(14.0 + RETRY_SECONDS / 2)
    assert watch.fencing_is_due(14.0 + RETRY_SECONDS)
    watch.heard(renewal(sent=15.0), 15.0)
    assert not watch.fencing_is_due(16.0)


def test_a_fenced_mysqld_is_not_writable_until_the_controller_says_so() -> None:
    watch = watch_after(renewal(sent=10.0))
    watch.fenced(14.0)
    assert not watch.writable
    watch.heard(renewal(sent=15.0), 15.0)
    assert watch.writable
    watch.fenced(14.5)
    assert watch.writable, "it was opened again meanwhile, perhaps"


def test_renewals_survive_the_wire() -> None:
    said = renewal(sent=1.5, seconds=0.25, leaving=True)
    assert decode(encode(said)) == said


@pytest.mark.parametrize("datagram", [b"", b"\xff", b"[]", b"{}", b'{"pid": 1}', b"7"])
def test_what_is_no_renewal_is_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError, match="not a renewal"):
        decode(datagram)


def test_fencings_are_taken_once(tmp_path) -> None:
    files = GuardFiles(tmp_path)
    assert take_fencings(files) == []
    fenced = Fenced(fenced=True, killed=True, rungs=(Rung("connect", ok=False, milliseconds=500, error="no answer"),))
    note_fencing(files, by="guard of db1", why="silence", fenced=fenced)
    note_fencing(files, by="guard of db1", why="still", fenced=fenced._replace(fenced=False))
    noted = take_fencings(files)
    assert [(n["kind"], n["why"]) for n in noted] == [("fenced", "silence"), ("fencing-failed", "still")]
    assert noted[0]["detail"] == {"connect": "no answer (500 ms)", "killed": True}
    assert take_fencings(files) == []
