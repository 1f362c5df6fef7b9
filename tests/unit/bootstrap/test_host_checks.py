"""Clocks and disks: what is passed, warned of and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.bootstrap.finding import Finding, Severity
from raftctl.bootstrap.host_checks import check_hosts, size
from raftctl.bootstrap.measure import Clock, Measures, Room, measure
from raftctl.bootstrap.survey import HostSurvey
from raftctl.hosts.local import LocalHost
from tests.support.bootstrap_builders import configuration, mysql_survey

MIB, GIB = 1 << 20, 1 << 30
DATADIR = "/var/lib/mysql/"


def clocks(**ahead: float) -> dict[str, Finding]:
    """The findings on clocks so many seconds ahead of this machine's, each known to half a second."""
    surveys = {
        name: HostSurvey(name=name, measures=Measures(Clock(seconds - 0.25, seconds + 0.25), ()))
        for name, seconds in ahead.items()
    }
    return {finding.host: finding for finding in check_hosts(surveys)}


def disk(*, free: int, total: int = 100 * GIB, is_new: bool = True) -> Finding:
    room = Room("/var/lib/raftctl", free, total)
    config = None if is_new else configuration()
    found = HostSurvey(name="db1", config=config, measures=Measures(Clock(0, 0), (room,)))
    (finding,) = [finding for finding in check_hosts({"db1": found}) if finding.check == "disk"]
    return finding


def test_clocks_that_agree_pass() -> None:
    found = clocks(db1=0.0, db2=0.1, db3=-0.2)
    assert {finding.severity for finding in found.values()} == {Severity.PASS}
    assert found["db1"].what == "not more than 0.5 s from the others'"


@pytest.mark.parametrize(("seconds", "what"), [(5.0, "4.5 s ahead"), (-5.0, "4.5 s behind")])
def test_the_one_clock_that_is_wrong_is_named(seconds: float, what: str) -> None:
    found = clocks(db1=0.0, db2=seconds, db3=0.0)
    assert [name for name, finding in found.items() if finding.severity is Severity.WARN] == ["db2"]
    assert what in found["db2"].what
    assert found["db2"].mend


def test_slow_answers_are_no_wrong_clocks() -> None:
    surveys = {
        "db1": HostSurvey(name="db1", measures=Measures(Clock(-9.0, 0.1), ())),
        "db2": HostSurvey(name="db2", measures=Measures(Clock(-0.1, 0.1), ())),
    }
    assert {finding.severity for finding in check_hosts(surveys)} == {Severity.PASS}


def test_a_clock_at_which_certificates_are_not_valid_yet_is_refused() -> None:
    found = clocks(db1=0.0, db2=-13 * 3600.0, db3=0.0)
    assert found["db2"].severity is Severity.FAIL
    assert "13 hours behind" in found["db2"].what


@pytest.mark.parametrize(
    ("free", "is_new", "severity"),
    [
        (50 * GIB, True, Severity.PASS),
        (4 * GIB, True, Severity.WARN),  # of 100
        (63 * MIB, True, Severity.FAIL),
        (63 * MIB, False, Severity.WARN),  # a member that runs is not refused what mends it
    ],
)
def test_room(free: int, is_new: bool, severity: Severity) -> None:
    assert disk(free=free, is_new=is_new).severity is severity


def test_an_empty_server_needs_room_for_the_copy() -> None:
    def server(name: str, *, free: int, unused: bool, data: int) -> HostSurvey:
        mysql = mysql_survey(unused=unused, data_bytes=data)
        mysql.variables["datadir"] = DATADIR
        return HostSurvey(name=name, mysql=mysql, measures=Measures(Clock(0, 0), (Room(DATADIR, free, 100 * GIB),)))

    donor = server("db1", free=10 * GIB, unused=False, data=60 * GIB)
    small = server("db2", free=20 * GIB, unused=True, data=MIB)
    large = server("db3", free=70 * GIB, unused=True, data=MIB)
    failed = [f for f in check_hosts({"db1": donor, "db2": small, "db3": large}) if f.severity is Severity.FAIL]
    assert [(f.host, f.what) for f in failed] == [("db2", "20 GiB are free, a copy of db1's data takes 60 GiB")]


def test_what_cannot_be_measured_is_said() -> None:
    (finding,) = check_hosts({"db1": HostSurvey(name="db1", measures_error="cannot run python3")})
    assert (finding.severity, finding.what) == (Severity.WARN, "cannot run python3")


def test_this_machine_is_measured_where_directories_are_still_to_be_made(tmp_path: Path) -> None:
    found = measure(LocalHost("db1"), [f"{tmp_path}/a/b", str(tmp_path)])
    assert found.clock.least <= 0 <= found.clock.most
    assert [room.path for room in found.rooms] == [f"{tmp_path}/a/b", str(tmp_path)]
    assert all(0 < room.free_bytes <= room.total_bytes for room in found.rooms)


@pytest.mark.parametrize(
    ("count", "text"), [(9, "9 bytes"), (1536, "1.5 KiB"), (20 * GIB, "20 GiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
