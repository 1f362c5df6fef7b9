"""The lease of rule R7: counted from when the report left, per epoch."""

from __future__ import annotations

from raftctl.controller.lease import Lease


def test_no_lease_before_the_first_grant() -> None:
    lease = Lease(started=0.0)
    assert lease.remaining(1, 0.0) == 0.0


def test_a_lease_counts_from_when_the_report_was_sent() -> None:
    lease = Lease(started=0.0)
    lease.asked(1, 10.0)
    lease.granted(seq=1, epoch=3, ttl=4.0)  # arrives whenever: delays only shorten it
    assert lease.remaining(3, 12.5) == 1.5
    assert lease.remaining(3, 14.0) == 0.0


def test_a_lease_is_for_one_epoch() -> None:
    lease = Lease(started=0.0)
    lease.asked(1, 10.0)
    lease.granted(seq=1, epoch=3, ttl=4.0)
    assert lease.remaining(4, 11.0) == 0.0


def test_a_grant_of_an_older_epoch_changes_nothing() -> None:
    lease = Lease(started=0.0)
    lease.asked(1, 10.0)
    lease.asked(2, 11.0)
    lease.granted(seq=1, epoch=3, ttl=4.0)
    lease.granted(seq=2, epoch=2, ttl=4.0)
    assert lease.remaining(3, 12.0) == 2.0


def test_a_new_epoch_does_not_inherit_a_longer_lease() -> None:
    lease = Lease(started=0.0)
    lease.asked(1, 10.0)
    lease.asked(2, 11.0)
    lease.granted(seq=2, epoch=3, ttl=4.0)
    lease.granted(seq=1, epoch=4, ttl=4.0)
    assert lease.remaining(4, 12.0) == 2.0


def test_grants_out_of_order_never_shorten() -> None:
    lease = Lease(started=0.0)
    lease.asked(1, 10.0)
    lease.asked(2, 11.0)
    lease.granted(seq=2, epoch=3, ttl=4.0)
    lease.granted(seq=1, epoch=3, ttl=4.0)
    assert lease.remaining(3, 12.0) == 3.0


def test_a_grant_for_a_report_that_was_never_sent_changes_nothing() -> None:
    lease = Lease(started=0.0)
    lease.granted(seq=7, epoch=3, ttl=4.0)
    assert lease.remaining(3, 0.0) == 0.0


def test_a_new_process_waits_one_ttl_for_its_first_grant() -> None:
    lease = Lease(started=100.0)
    assert not lease.is_over(103.0, ttl=4.0)
    assert lease.is_over(104.0, ttl=4.0)


def test_a_lease_that_ran_out_is_over() -> None:
    lease = Lease(started=0.0)
    lease.asked(1, 10.0)
    lease.granted(seq=1, epoch=3, ttl=4.0)
    assert not lease.is_over(13.9, ttl=4.0)
    assert lease.is_over(14.0, ttl=4.0)


def test_the_lease_of_the_epoch_before_holds_off_the_fence() -> None:
    """A primary that is promoted again, or relieved by a switchover, is not fenced while its last lease holds."""
    lease = Lease(started=0.0)
    lease.asked(1, 10.0)
    lease.granted(seq=1, epoch=3, ttl=4.0)
    assert lease.remaining(4, 12.0) == 0.0
    assert not lease.is_over(12.0, ttl=4.0)
