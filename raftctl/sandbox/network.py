"""The sandbox's network: loopback with distinct ports, or a network namespace for each member (needs root).

In namespaces every member has an address of its own behind a virtual switch, and packets between two members
can be dropped one way or both. A dropped direction is a bogus permanent neighbour entry at the sender: its
frames go to a hardware address that nobody has. That loses packets of existing connections too, silently,
without iptables, and answers to ARP requests still leave, so that the other direction keeps working.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from raftctl.errors import HostError, UsageError

LOOPBACK = "127.0.0.1"
NOBODY = "02:00:00:00:00:00"  # a locally administered hardware address that no interface has
_OUTSIDE_HOST_NUMBER = 254  # the machine's own address in the members' network
_FIRST_HOST_NUMBER = 11
_DEADLINE_S = 20.0
# Below the range of ephemeral ports (32768 and up by default): otherwise any client's outgoing connection may
# sit on a member's port while that member is down.
_PORTS = range(20000, 32000)


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports that nobody listens on at the moment."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            return found
        if is_free(port):
            found.append(port)
    raise HostError(f"there are no {count} free TCP ports from {_PORTS.start} to {_PORTS.stop - 1}")


def is_free(port: int) -> bool:
    """Whether nobody listens on the TCP port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections in TIME_WAIT do not count
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def cuts(members: Sequence[str], sides: Sequence[Sequence[str]], *, one_way: bool) -> set[tuple[str, str]]:
    """The directions (from, to) that a partition drops.

    Members not named form one more side. `one_way` drops only what the first side sends to the second, which
    is everybody else if it is not given; then members not named are not affected.

    Raises:
        UsageError: an unknown member, one on two sides, or sides that cut nothing.
    """
    named = [name for side in sides for name in side]
    for name in named:
        if name not in members:
            known = ", ".join(members)
            raise UsageError(f"{name} is not a member of this sandbox", hint=f"its members are {known}")
        if named.count(name) > 1:
            raise UsageError(f"{name} is named twice: a member is on one side only")
    rest = [name for name in members if name not in named]
    if one_way:
        if len(sides) > 2:
            raise UsageError("--one-way takes two sides: what A sends to B is dropped")
        senders, receivers = sides[0], sides[1] if len(sides) == 2 else rest
        dropped = {(a, b) for a in senders for b in receivers}
    else:
        groups = [*sides, rest]
        dropped = {(a, b) for side in groups for a in side for b in members if b not in side}
    if not dropped:
        raise UsageError("that cuts nothing: all members are on one side")
    return dropped


class NamespaceNetwork:
    """One namespace per member, and one more that holds the switch.

    The switch is not in the machine's own namespace: there, a firewall that drops forwarded packets (Docker
    sets one up) would reach bridged frames as well. `tag` is short and unique on this machine; `subnet` is a
    /24.
    """

    def __init__(self, tag: str, subnet: str, members: Sequence[str]) -> None:
        self._tag = tag
        self._subnet = ipaddress.IPv4Network(subnet)
        self._members = list(members)
        self._switch = f"rc{tag}-switch"
        self._outside = f"rc{tag}"  # this machine's interface; at most 15 characters

    def namespace(self, member: str) -> str:
        return f"rc{self._tag}-{member}"

    def address(self, member: str) -> str:
        return str(self._subnet[_FIRST_HOST_NUMBER + self._members.index(member)])

    @property
    def outside_address(self) -> str:
        """This machine's own address in the members' network."""
        return str(self._subnet[_OUTSIDE_HOST_NUMBER])

    def ensure(self) -> None:
        """Build the network unless it is there. A half-built one is rebuilt.

        Raises:
            HostError: not root, no `ip`, or the kernel refuses.
        """
        require_namespaces()
        if self._is_complete():
            return
        if self._is_built():  # and a member was added since
            for number, member in enumerate(self._members):
                if not _exists(self.namespace(member)):
                    self._add(number, member)
            return
        self.remove()
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        for number, member in enumerate(self._members):
            self._add(number, member)
        # last: its presence means that everything is there
        self._plug(self._outside, "", "outside", self.outside_address)

    def _add(self, number: int, member: str) -> None:
        space = self.namespace(member)
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
        self._plug("eth0", space, f"port{number}", self.address(member))

    def _plug(self, interface: str, space: str, port: str, address: str) -> None:
        """Connect an interface of a namespace ("" for the machine's own) to a port of the switch."""
        inside = ("-n", space) if space else ()
        # The kernel takes its time to remove what was plugged into a namespace that was deleted just now.
        with contextlib.suppress(HostError):
            _ip("-n", self._switch, "link", "del", port)
        _ip(*inside, "link", "add", interface, "type", "veth", "peer", "name", port, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
        _ip(*inside, "addr", "add", f"{address}/{self._subnet.prefixlen}", "dev", interface)
        _ip(*inside, "link", "set", interface, "up")

    def _is_complete(self) -> bool:
        return self._is_built() and all(map(_exists, map(self.namespace, self._members)))

    def _is_built(self) -> bool:
        return Path("/sys/class/net", self._outside).exists() and _exists(self._switch)

    def remove(self) -> None:
        """Take everything down. Processes inside must be gone, or their namespaces live on without a name."""
        if Path("/sys/class/net", self._outside).exists():
            _ip("link", "del", self._outside)
        for space in [*map(self.namespace, self._members), self._switch]:
            if _exists(space):
                _ip("netns", "del", space)

    def drop(self, directions: Iterable[tuple[str, str]]) -> None:
        """Lose every packet of these directions (from, to) from now on, in addition to what is lost
        already.
        """
        for sender, receiver in sorted(directions):
            entry = (self.address(receiver), "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
            _ip("-n", self.namespace(sender), "neigh", "replace", *entry)

    def heal(self) -> None:
        """Lose nothing any more. TCP connections continue at their next retransmission."""
        for member in self._members:
            _ip("-n", self.namespace(member), "neigh", "flush", "dev", "eth0", "nud", "permanent")


def free_subnet(seed: int) -> str:
    """A private /24 that this machine has no route to, the same for the same `seed` if it is free."""
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all") or "[]")
    used = []
    for route in routes:
        destination = "0.0.0.0/32" if route["dst"] == "default" else route["dst"]
        used.append(ipaddress.IPv4Network(destination, strict=False))
    for step in range(1 << 14):
        number = (seed + step) % (1 << 14)  # 10.64.0.0/10 has so many
        subnet = ipaddress.IPv4Network((ipaddress.IPv4Address("10.64.0.0") + 256 * number, 24))
        if not any(subnet.overlaps(other) for other in used):
            return str(subnet)
    raise HostError("no private /24 network below 10.64.0.0/10 is free")


def require_namespaces() -> None:
    """Raises HostError unless network namespaces can be made: root, `ip` (iproute2) and `nsenter`
    (util-linux).
    """
    if os.geteuid() != 0:
        raise HostError("network namespaces need root", hint="run this as root, or use --network loopback")
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            raise HostError(f"network namespaces need {program}", hint=f"apt-get install {package}")


def _exists(space: str) -> bool:
    return Path("/run/netns", space).exists()


def _ip(*arguments: str) -> str:
    command = ["ip", *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise HostError(f"`{' '.join(command)}` took over {_DEADLINE_S:.0f} s") from None
    if result.returncode != 0:
        raise HostError(
            f"`{' '.join(command)}` failed: {result.stderr.strip()}",
            hint="network namespaces are not to be had here: use --network loopback",
        )
    return result.stdout
