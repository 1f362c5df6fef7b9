"""A Raft group of real processes for tests: start, SIGKILL, propose, wait for conditions with deadlines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from raftctl.raftnode.transport import Address
from raftctl.sandbox.network import LOOPBACK, NamespaceNetwork, free_ports
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


class Unreachable(Exception):
    """The process does not answer."""


class RaftMember:
    """One process. `ask` opens one connection per request, so that it works across restarts."""

    def __init__(
        self,
        *,
        name: str,
        directory: Path,
        peers: dict[str, Address],
        enter: list[str],
        program: str = "tests.support.raft_process",
        **settings: Any,
    ) -> None:
        self.name = name
        self.directory = directory
        self.address = peers[name]
        self._enter = enter  # a command that runs the rest of its arguments in the member's network namespace
        self._program = program
        directory.mkdir()
        self.socket = directory / "client.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.config_file = directory / "config.json"
        config = {
            "node": name,
            "peers": peers,
            "key": "0123456789abcdef",
            "election_timeout": 0.3,
            "heartbeat_interval": 0.05,
            "compact_after_bytes": 1 << 30,
            "directory": str(directory / "raft"),
            "socket": str(self.socket),
        }
        self.config_file.write_text(json.dumps(config | settings))

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._enter, sys.executable, "-m", self._program, str(self.config_file)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=30)
            self.process = None

    def log_text(self) -> str:
        return (self.directory / "log").read_text()

    def ask(self, op: str, *, wait: float = 10.0, **arguments: Any) -> Any:
        """One request. Raises Unreachable when there is no answer within `wait` seconds."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(wait)
                client.connect(str(self.socket))
                client.sendall(json.dumps({"op": op, **arguments}).encode() + b"\n")
                with client.makefile("rb") as answers:
                    line = answers.readline()
        except OSError as error:
            raise Unreachable(self.name) from error
        if not line:
            raise Unreachable(self.name)
        return json.loads(line)

    def status(self) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self.ask("status", wait=2.0)["ok"]
        except Unreachable:
            return None
        return answer


class RaftCluster:
    """Members n1, n2, n3 on loopback, or each in its own namespace of `network`."""

    def __init__(self, directory: Path, *, network: NamespaceNetwork | None = None, **settings: Any) -> None:
        names = ("n1", "n2", "n3")
        if network is None:
            ports = free_ports(len(names))
            peers = {name: Address(LOOPBACK, port) for name, port in zip(names, ports, strict=True)}
        else:
            peers = {name: Address(network.address(name), 7000) for name in names}
        self.members = {}
        for name in names:
            enter = ["nsenter", f"--net=/run/netns/{network.namespace(name)}"] if network else []
            self.members[name] = RaftMember(name=name, directory=directory / name, peers=peers, enter=enter, **settings)
        self.acknowledged: list[str] = []

    def __getitem__(self, name: str) -> RaftMember:
        return self.members[name]

    def start(self) -> None:
        for member in self.members.values():
            member.start()

    def kill(self) -> None:
        for member in self.members.values():
            member.kill()

    def wait_connected(self) -> None:
        def all_connected() -> bool:
            statuses = [member.status() for member in self.members.values()]
            return all(status and len(status["connected"]) == len(statuses) - 1 for status in statuses)

        wait_until(all_connected, what="every member to be connected to every other")

    def leader(self, *, timeout: float = 30.0) -> RaftMember:
        """The member that leads the highest term among those that answer."""

        def find() -> RaftMember | None:
            statuses = [s for m in self.members.values() if m.process and (s := m.status())]
            top = max((s["term"] for s in statuses), default=0)
            for status in statuses:
                if status["role"] == "leader" and status["term"] == top:
                    return self.members[status["node_id"]]
            return None

        return wait_until(find, what="a leader", timeout=timeout)

    def propose(self, data: str, *, timeout: float = 30.0) -> None:
        """Have `data` acknowledged by whoever leads. It may be applied more than once when a leader died over
        it."""

        def attempt() -> bool:
            try:
                return "ok" in self.leader().ask("propose", data=data, timeout=2.0)
            except Unreachable:
                return False

        wait_until(attempt, what=f"acknowledgement of {data}", timeout=timeout)
        self.acknowledged.append(data)

    def applied(self, name: str) -> list[str]:
        """What `name` has applied, linearizably: everything acknowledged so far is in it."""

        def read() -> list[str] | None:
            try:
                answer = self[name].ask("read", timeout=5.0)
            except Unreachable:
                return None
            return answer.get("ok")  # type: ignore[no-any-return]

        try:
            return wait_until(read, what=f"a read on {name}")
        except AssertionError as error:
            said = {n: (member.status(), member.log_text()[-2000:]) for n, member in self.members.items()}
            raise AssertionError(f"{error}; {said}") from None

    def check_nothing_lost(self) -> None:
        """Every running member has applied every acknowledged proposal, and all have the same sequence."""
        sequences = [self.applied(name) for name, member in self.members.items() if member.process]
        shortest = min(len(s) for s in sequences)
        for sequence in sequences:
            lost = [data for data in self.acknowledged if data not in set(sequence)]
            assert not lost, f"acknowledged {len(self.acknowledged)}, lost {len(lost)}: {lost[:5]}"
            assert sequence[:shortest] == sequences[0][:shortest]
