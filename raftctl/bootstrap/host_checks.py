"""Clocks that agree and disks with room, before anything is put there. Pure.

No decision of raftctl's depends on the time of day. Its history, its logs and the lag of replicas do, and certificates
are valid from a day before the hour at which this machine made them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from raftctl.bootstrap.finding import Finding, Severity
from raftctl.bootstrap.measure import Clock, Room
from raftctl.bootstrap.survey import HostSurvey

CLOCKS_APART_SECONDS: Final = 1.0
CLOCK_BEHIND_SECONDS_MAX: Final = 12 * 3600.0
FREE_BYTES_MIN: Final = 64 << 20  # the log, a release of raftctl, and mysqld's own files need that to begin with
FREE_BYTES_ADVISED: Final = 1 << 30
FREE_SHARE_ADVISED: Final = 0.05
_CLOCK_MEND: Final = "let chrony or systemd-timesyncd set it"
_DISK_MEND: Final = "make room there, or give it a larger disk"


def check_hosts(surveys: Mapping[str, HostSurvey]) -> Iterator[Finding]:
    """The clock and the disks of each host that could be measured."""
    clocks = {name: found.measures.clock for name, found in surveys.items() if found.measures is not None}
    largest = max((_data_bytes(found), name) for name, found in surveys.items()) if surveys else (0, "")
    for name, found in surveys.items():
        if found.measures_error:
            yield Finding(name, "clock", Severity.WARN, found.measures_error, "python3 is needed there")
        if found.measures is None:
            continue
        yield _clock(name, found.measures.clock, _middle(clocks))
        for room in found.measures.rooms:
            yield _disk(name, room, is_new=found.config is None)
        if found.config is None:
            yield from _room_for_copy(name, found, *largest)


def _clock(host: str, clock: Clock, middle: Clock) -> Finding:
    if clock.most < -CLOCK_BEHIND_SECONDS_MAX:
        what = f"its clock is {-clock.most / 3600:.0f} hours behind this machine's: the certificates made here"
        return Finding(host, "clock", Severity.FAIL, f"{what} are not valid there yet", _CLOCK_MEND)
    ahead, behind = clock.least - middle.most, middle.least - clock.most
    if max(ahead, behind) >= CLOCKS_APART_SECONDS:
        what = f"{ahead:.1f} s ahead" if ahead > 0 else f"{behind:.1f} s behind"
        why = "history, logs and lag would be misleading"
        return Finding(host, "clock", Severity.WARN, f"its clock is at least {what}: {why}", _CLOCK_MEND)
    apart = max(clock.most - middle.least, middle.most - clock.least)
    return Finding(host, "clock", Severity.PASS, f"not more than {apart:.1f} s from the others'")


def _middle(clocks: Mapping[str, Clock]) -> Clock:
    """That of the host with as many ahead of it as behind: one wrong clock among three does not accuse the others."""
    ordered = sorted(clocks.values(), key=lambda clock: clock.least + clock.most)
    return ordered[(len(ordered) - 1) // 2]


def _disk(host: str, room: Room, *, is_new: bool) -> Finding:
    what = f"{size(room.free_bytes)} of {size(room.total_bytes)} are free for {room.path}"
    if room.free_bytes < FREE_BYTES_MIN and is_new:
        return Finding(host, "disk", Severity.FAIL, what, _DISK_MEND)
    if room.free_bytes < max(FREE_BYTES_ADVISED, FREE_SHARE_ADVISED * room.total_bytes):
        return Finding(host, "disk", Severity.WARN, what, _DISK_MEND)
    return Finding(host, "disk", Severity.PASS, what)


def _room_for_copy(host: str, found: HostSurvey, needed: int, donor: str) -> Iterator[Finding]:
    """A server without data is given a copy of the one that has them."""
    if found.measures is None or found.mysql is None or not found.mysql.unused or donor == host:
        return
    datadir = found.mysql.variables.get("datadir")
    free = next((room.free_bytes for room in found.measures.rooms if room.path == datadir), needed)
    if free < needed:
        what = f"{size(free)} are free, a copy of {donor}'s data takes {size(needed)}"
        yield Finding(host, "disk", Severity.FAIL, what, _DISK_MEND)


def _data_bytes(found: HostSurvey) -> int:
    return found.mysql.data_bytes if found.mysql is not None and not found.mysql.unused else 0


def size(count: int) -> str:
    """`1.5 GiB`."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
