"""The log's thread: group commit, tickets in order, and the end of the process when the disk refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from raftctl.consensus.membership import Membership
from raftctl.consensus.types import Entry, EntryKind, HardState, Snapshot
from raftctl.raftnode.wal import Wal
from raftctl.raftnode.wal_writer import EXIT_BROKEN, WalWriter, Write, merge
from tests.support.raft_cluster import ROOT


def entries(*, first: int, count: int, term: int) -> tuple[Entry, ...]:
    return tuple(Entry(first + i, term, EntryKind.COMMAND, b"") for i in range(count))


def snapshot(*, index: int) -> Snapshot:
    return Snapshot(index, 1, Membership.of(["db1"]), b"state")


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4), st.none() | st.integers(1, 9)), max_size=8))
def test_merged_writes_have_the_effect_of_all_of_them(steps: list[tuple[int, int, int | None]]) -> None:
    log = list(entries(first=1, count=8, term=0))
    one_by_one, state = list(log), HardState()
    writes = []
    for term, (first, count, hard_term) in enumerate(steps, start=1):
        first = min(first, len(one_by_one) + 1)
        batch = entries(first=first, count=count, term=term)
        hard_state = None if hard_term is None else HardState(hard_term)
        writes.append(Write(term, hard_state, batch))
        if batch:
            one_by_one[first - 1 :] = batch
        state = hard_state or state
    if not writes:
        return
    merged = merge(writes)
    if merged.entries:
        log[merged.entries[0].index - 1 :] = merged.entries
    assert log == one_by_one
    assert (merged.hard_state or HardState()) == state
    assert merged.ticket == writes[-1].ticket
    replacing = [Write(99, None, (), snapshot(index=50)), Write(100, None, entries(first=51, count=1, term=9))]
    merged = merge([*writes, *replacing])
    assert merged.snapshot == snapshot(index=50)
    assert [e.index for e in merged.entries] == [51]


async def test_everything_submitted_is_written_in_order(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, cluster_id="orders", node_id="db1")
    written: list[int] = []
    compacted: list[Snapshot] = []
    writer = WalWriter(wal, on_written=written.append, on_compacted=compacted.append)
    for n in range(1, 501):
        writer.submit(Write(n, HardState(n), entries(first=n, count=1, term=n)))
        if n % 100 == 0:
            writer.compact(snapshot(index=n - 10))
    async with asyncio.timeout(30):
        while written[-1:] != [500]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert written == sorted(set(written))
    writer.submit(Write(501, HardState(501), ()))
    await writer.stop()
    wal, recovered = Wal.open(tmp_path, cluster_id="orders", node_id="db1")
    wal.close()
    assert [s.index for s in compacted] == [90, 190, 290, 390, 490]
    assert recovered.snapshot == snapshot(index=490)
    assert [e.index for e in recovered.entries] == list(range(491, 501))
    assert recovered.hard_state == HardState(501), "what was queued when it stopped is written too"


def test_a_disk_that_refuses_ends_the_process(tmp_path: Path) -> None:
    """Rule R1. The program would go on for a minute; it is ended from the log's thread."""
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from raftctl.consensus.types import HardState\n"
        "from raftctl.raftnode.wal import Wal\n"
        "from raftctl.raftnode.wal_writer import WalWriter, Write\n"
        "wal, _ = Wal.open(pathlib.Path(sys.argv[1]), cluster_id='orders', node_id='db1')\n"
        "os.dup2(os.open('/dev/full', os.O_WRONLY), wal._fd)\n"
        "async def main():\n"
        "    writer = WalWriter(wal, on_written=print, on_compacted=print)\n"
        "    writer.submit(Write(1, HardState(1), ()))\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == EXIT_BROKEN
    assert done.stdout == "", "the write was never reported as durable"
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
