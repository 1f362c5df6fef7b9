"""`raftctl controller hand-over`: what runs before a planned stop of a host or of its mysqld (rule R8).

SIGTERM tells clients whose commits wait that their writes are safe. So another member becomes primary first; when none
can, mysqld is fenced like in an emergency. Only a mysqld that is read-only with nothing in flight is stopped cleanly.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from raftctl import tls
from raftctl.api_client import ApiClient, CallError
from raftctl.cluster.facts import MemberFacts
from raftctl.controller import admin_port
from raftctl.controller.config import ControllerConfig, load, load_secrets
from raftctl.controller.fencing import Fenced, Ladder
from raftctl.controller.guard_protocol import GuardFiles, note_fencing
from raftctl.errors import HostError, MySQLError, RaftctlError
from raftctl.hosts.local_services import local_services
from raftctl.hosts.services import Unit
from raftctl.mysql.client import Endpoint, connect
from raftctl.mysql.errors import ServerGone
from raftctl.mysql.observe import observe
from raftctl.planner.local import has_no_client_waiting

CALL_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.1
CLEAN_STOP_SECONDS: Final = 60.0  # writing all dirty pages of a large buffer pool takes longer: SIGKILL is safe too
KILL_SECONDS: Final = 10.0


def hand_over(config_path: Path, *, stop: bool, timeout: float) -> Iterator[str]:
    """Makes sure, within about `timeout` seconds, that this host's mysqld acknowledges nothing falsely when it stops.

    Yields what was done, a line each. With `stop`, mysqld is stopped as well. Raises RaftctlError when mysqld could be
    neither closed nor killed: it must not be sent SIGTERM then."""
    if not config_path.exists():
        yield "this host is not a member of a cluster yet: nothing to hand over"
        return
    deadline = time.monotonic() + timeout
    config = load(config_path)
    if config.mysql is None:
        yield f"{config.node} is a witness: nothing to hand over"
        return
    departure = _Departure(config)
    try:
        yield departure.switch_over(deadline)
    except RaftctlError as error:
        yield f"no hand-over: {error}"
    fenced = departure.close()
    if fenced is not None:
        yield f"mysqld was fenced: {', '.join(f'{name}: {outcome}' for name, outcome in fenced.detail().items())}"
        if not fenced.fenced:
            raise RaftctlError("mysqld could not be fenced", hint="do not stop it with SIGTERM while commits wait")
    if stop:
        yield departure.stop_mysqld()


class _Departure:
    def __init__(self, config: ControllerConfig) -> None:
        assert config.mysql is not None
        self._config = config
        self._reigns = False
        self._files = GuardFiles(config.directory)
        password = load_secrets(config.secrets_file).admin_password
        self._endpoint = Endpoint(
            user=config.mysql.user,
            password=password,
            unix_socket=config.mysql.socket,
            admin_port=partial(admin_port.remembered, config.directory),
        )
        self._services = local_services(socket_path=config.services.socket, mysqld_unit=config.services.mysqld_unit)
        self._api = ApiClient(tls.client_context(config.api.ca, config.api.cert, config.api.key))

    def switch_over(self, deadline: float) -> str:
        """Have another member become primary and wait for it. Raises RaftctlError when that does not come about."""
        me, member = self._config.node, self._config.member
        facts = self._facts()
        if facts.state.primary and facts.state.primary != me:
            return f"{facts.state.primary} is the primary: nothing to hand over"
        self._reigns = facts.state.primary == me
        left = max(CALL_SECONDS, deadline - time.monotonic())
        self._api.post({me: member}, "/v1/switchover", {"by": f"planned stop of {me}"}, left)
        _wait(lambda: self._facts().state.primary not in ("", me), deadline, "nobody took over in time")
        self._reigns = False
        _wait(self._is_closed, deadline, "mysqld did not become a replica in time")
        return f"{self._facts().state.primary} is the primary now"

    def _facts(self) -> MemberFacts:
        try:
            return self._api.get(self._config.member, "/v1/member", CALL_SECONDS, MemberFacts)
        except CallError as error:
            raise RaftctlError(f"the controller does not answer: {error}") from None

    def _is_closed(self) -> bool:
        """Whether mysqld is read-only and no client waits for a commit, or it does not run."""
        try:
            with connect(self._endpoint, connect_timeout=CALL_SECONDS, timeout=CALL_SECONDS) as conn:
                return has_no_client_waiting(observe(conn))
        except ServerGone:
            return True
        except MySQLError:
            return False

    def close(self) -> Fenced | None:
        """Fence and kill mysqld unless it is closed already. Raises HostError.

        While it is this cluster's primary its controller may open it again before the SIGTERM that comes."""
        if self._is_closed() and not self._reigns:
            return None
        why = "a planned stop, and nobody could take over"
        fenced = Ladder(endpoint=self._endpoint, services=self._services).climb()
        with contextlib.suppress(OSError):  # a full disk: the history lacks it
            note_fencing(self._files, by=f"hand-over of {self._config.node}", why=why, fenced=fenced)
        if not fenced.killed:
            self._services.kill(Unit.MYSQLD, timeout=KILL_SECONDS)
        return fenced

    def stop_mysqld(self) -> str:
        """SIGTERM when nothing is in flight, else SIGKILL. Raises HostError."""
        pid = self._services.main_pid(Unit.MYSQLD, timeout=CALL_SECONDS)
        if pid is None:
            return "mysqld does not run"
        if not self._is_closed():
            self._services.kill(Unit.MYSQLD, timeout=KILL_SECONDS)
            return "mysqld was killed: it takes writes again"
        self._services.kill(Unit.MYSQLD, signal.SIGTERM, timeout=CALL_SECONDS)
        deadline = time.monotonic() + CLEAN_STOP_SECONDS
        try:
            _wait(lambda: self._services.main_pid(Unit.MYSQLD, timeout=CALL_SECONDS) != pid, deadline, "it goes on")
        except HostError:
            self._services.kill(Unit.MYSQLD, timeout=KILL_SECONDS)
            return "mysqld did not stop in time and was killed"
        return "mysqld stopped"


def _wait(condition: Callable[[], bool], deadline: float, complaint: str) -> None:
    while not condition():
        if time.monotonic() >= deadline:
            raise HostError(complaint)
        time.sleep(POLL_SECONDS)
