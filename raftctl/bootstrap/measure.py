"""A host's clock and its room on disk, measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from raftctl.cluster.codec import from_json
from raftctl.errors import HostError
from raftctl.hosts.base import Host

CALL_SECONDS: Final = 10.0

# No raftctl there yet, so with python3's own libraries only. A directory that is still to be made counts as its parent.
_MEASURE: Final = """import json, os, sys, time
def room(path):
    found = path
    while not os.path.isdir(found):
        found = os.path.dirname(found)
    disk = os.statvfs(found)
    return {"path": path, "free_bytes": disk.f_bavail * disk.f_frsize, "total_bytes": disk.f_blocks * disk.f_frsize}
rooms = [room(path) for path in sys.argv[1:]]
print(json.dumps({"time": time.time(), "rooms": rooms}))
"""


class Room(msgspec.Struct, frozen=True):
    """What the file system that holds `path` has for those who are not root."""

    path: str
    free_bytes: int
    total_bytes: int


class Clock(msgspec.Struct, frozen=True):
    """By how many seconds a host's clock is ahead of this machine's: between `least` and `most`, since asking takes
    its time."""

    least: float
    most: float


class Measures(msgspec.Struct, frozen=True):
    clock: Clock
    rooms: tuple[Room, ...]


class _Answer(msgspec.Struct):
    time: float
    rooms: tuple[Room, ...]


def measure(machine: Host, paths: Sequence[str]) -> Measures:
    """The clock, and the room for each of the `paths`, which are absolute. Raises HostError."""
    began = time.time()
    result = machine.run(["python3", "-c", _MEASURE, *paths], timeout=CALL_SECONDS)
    ended = time.time()
    try:
        answer: _Answer = from_json(result.stdout, _Answer)
    except msgspec.DecodeError as error:
        raise HostError(f"{machine.name}: python3 there does not say the time: {error}") from None
    return Measures(Clock(answer.time - ended, answer.time - began), answer.rooms)
