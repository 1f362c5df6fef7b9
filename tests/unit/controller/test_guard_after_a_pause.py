"""A guard that did not run for a while, or starts anew: what it still knows, and whom it hears out first."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.controller.guard import USUAL_LEASE_SECONDS, Watch, recall
from raftctl.controller.guard_protocol import GuardFiles, Renewal


def test_a_guard_that_was_away_listens_before_it_restarts_anybody() -> None:
    """The whole host may have been frozen: the lease is over all the same."""
    watch = Watch(remembered_ttl=4.0, now=0.0)
    watch.heard(Renewal(pid=7, sent=10.0, seconds=4.0, ttl=4.0, writable=True), 10.0)
    watch.was_away(60.0)
    assert watch.fencing_is_due(60.0)
    assert not watch.revival_is_due(60.9)
    assert watch.revival_is_due(61.0)


def test_a_guard_that_never_heard_of_a_cluster_remembers_none(tmp_path: Path) -> None:
    assert recall(GuardFiles(tmp_path)) == 0.0


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b'{"ttl": null}', b"\x00\xff"])
def test_a_damaged_memory_says_that_there_was_a_cluster(tmp_path: Path, content: bytes) -> None:
    files = GuardFiles(tmp_path)
    files.memory.write_bytes(content)
    assert recall(files) == USUAL_LEASE_SECONDS


def test_a_memory_that_cannot_be_read_says_so_too(tmp_path: Path) -> None:
    files = GuardFiles(tmp_path)
    files.memory.mkdir()
    assert recall(files) == USUAL_LEASE_SECONDS


def test_a_guard_remembers_how_long_a_lease_lasts(tmp_path: Path) -> None:
    files = GuardFiles(tmp_path)
    files.memory.write_text('{"ttl": 2.5}')
    assert recall(files) == 2.5
