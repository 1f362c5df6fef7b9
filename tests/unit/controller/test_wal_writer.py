"""The log's thread: group commit, tickets in order, and the end of the process when the disk refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from raftctl.consensus.types import Entry, EntryKind, HardState
from raftctl.controller.wal import Wal
from raftctl.controller.wal_writer import EXIT_BROKEN, WalWriter, Write, merge
from tests.support.raft_cluster import ROOT


def entries(*, first: int, count: int, term: int) -> tuple[Entry, ...]:
    return tuple(Entry(first + i, term, EntryKind.COMMAND, b"") for i in range(count))


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
    hard_state, merged = merge(writes)
    if merged:
        log[merged[0].index - 1 :] = merged
    assert log == one_by_one
    assert (hard_state or HardState()) == state


async def test_everything_submitted_is_written_in_order(tmp_path: Path) -> None:
    wal, _ = Wal.open(tmp_path, cluster_id="orders", node_id="db1")
    written: list[int] = []
    writer = WalWriter(wal, on_written=written.append)
    for n in range(1, 501):
        writer.submit(n, HardState(n), entries(first=n, count=1, term=n))
    async with asyncio.timeout(30):
        while written[-1:] != [500]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert written == sorted(set(written))
    writer.submit(501, HardState(501), ())
    await asyncio.to_thread(writer.stop)
    wal, recovered = Wal.open(tmp_path, cluster_id="orders", node_id="db1")
    wal.close()
    assert [e.index for e in recovered.entries] == list(range(1, 501))
    assert recovered.hard_state == HardState(501), "what was queued when it stopped is written too"


def test_a_disk_that_refuses_ends_the_process(tmp_path: Path) -> None:
    """Rule R1. The program would go on for a minute; it is ended from the log's thread."""
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from raftctl.consensus.types import HardState\n"
        "from raftctl.controller.wal import Wal\n"
        "from raftctl.controller.wal_writer import WalWriter\n"
        "wal, _ = Wal.open(pathlib.Path(sys.argv[1]), cluster_id='orders', node_id='db1')\n"
        "os.dup2(os.open('/dev/full', os.O_WRONLY), wal._fd)\n"
        "async def main():\n"
        "    WalWriter(wal, on_written=print).submit(1, HardState(1), ())\n"
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
