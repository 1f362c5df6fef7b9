"""Copying an existing primary's data to the members that have none of it, by CLONE."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from raftctl.errors import MySQLError, RaftctlError
from raftctl.hosts.reach import services_of
from raftctl.hosts.services import Unit
from raftctl.inventory.model import InventoryHost
from raftctl.mysql.accounts import replication_user
from raftctl.mysql.client import Endpoint, connect
from raftctl.mysql.clone import AfterClone, CloneProgress, clone_from, clone_progress
from raftctl.mysql.replication import Source, stop_replica
from raftctl.secret import Secret

CLONE_SECONDS_MAX = 24 * 3600.0  # of data: half a terabyte at 6 MB/s
RESTART_SECONDS_MAX = 600.0  # mysqld opens the copied tablespaces and recovers
_PROGRESS_SECONDS = 2.0
_CALL_SECONDS = 5.0


def seed(
    host: InventoryHost, *, endpoint: Endpoint, donor: InventoryHost, password: Secret, progress: Callable[[str], None]
) -> None:
    """Replace what `host` has by `donor`'s data and wait until its mysqld is up with it. `endpoint` is raftctl's
    account on `host`, `password` that of the host's replication account on the donor. Raises RaftctlError."""
    source = Source(host=donor.address, port=donor.mysql_port, user=replication_user(host.name), password=password)
    done = threading.Event()
    reporter = threading.Thread(target=_report, args=(host.name, endpoint, done, progress), daemon=True)
    with connect(endpoint, connect_timeout=_CALL_SECONDS, timeout=_CALL_SECONDS) as conn:
        stop_replica(conn, timeout=_CALL_SECONDS)
        reporter.start()
        try:
            after = clone_from(conn, source, timeout=CLONE_SECONDS_MAX)
        finally:
            done.set()
    if after is AfterClone.MUST_BE_STARTED:
        services_of(host).start(Unit.MYSQLD, timeout=_CALL_SECONDS)
    last = _wait_cloned(endpoint)
    if last.state != "Completed":
        raise RaftctlError(f"{host.name}: CLONE from {donor.name} {last.state.lower()}: {last.error}")


def _wait_cloned(endpoint: Endpoint) -> CloneProgress:
    """What the restarted server says of the CLONE."""
    deadline = time.monotonic() + RESTART_SECONDS_MAX
    while True:
        try:
            with connect(endpoint, connect_timeout=_CALL_SECONDS, timeout=_CALL_SECONDS) as conn:
                progress = clone_progress(conn)
            if progress is not None and progress.state != "In Progress":
                return progress
            complaint = "it does not know of a CLONE" if progress is None else progress.state
        except MySQLError as error:
            complaint = str(error)
        if time.monotonic() > deadline:
            raise RaftctlError(f"mysqld does not come up after CLONE: {complaint}", hint="see its error log")
        time.sleep(0.2)


def _report(name: str, endpoint: Endpoint, done: threading.Event, progress: Callable[[str], None]) -> None:
    """For people only: what cannot be read is not said."""
    while not done.wait(_PROGRESS_SECONDS):
        try:
            with connect(endpoint, connect_timeout=_CALL_SECONDS, timeout=_CALL_SECONDS) as conn:
                state = clone_progress(conn)
        except MySQLError:
            continue
        if state is not None and state.bytes_estimated:
            percent = 100 * state.bytes_done // state.bytes_estimated
            progress(f"{name}: {state.stage.lower()} {percent} % of {state.bytes_estimated >> 20} MiB")
