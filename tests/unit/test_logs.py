"""`raftctl logs`: what journalctl and the files of a sandbox say becomes lines with a time, a host and a unit."""

from __future__ import annotations

import datetime as dt

import pytest

from raftctl.errors import HostError
from raftctl.hosts.logs import LogLine, Unseen, parse_file, parse_journal

UNITS = {"raftctl-controller.service": "controller", "mysql.service": "mysqld"}
NOON = dt.datetime(2026, 11, 22, 12, 0, 0, tzinfo=dt.UTC)


def journal(*entries: str) -> list[LogLine]:
    return list(parse_journal("\n".join(entries).encode(), host="db1", units=UNITS))


def file(*texts: str, zone: dt.tzinfo = dt.UTC) -> list[tuple[dt.datetime, str]]:
    return [(line.at, line.text) for line in parse_file(texts, host="db1", unit="controller", zone=zone)]


def line(second: int, text: str) -> LogLine:
    return LogLine(NOON + dt.timedelta(seconds=second), "db1", "controller", text)


def test_what_follows_is_told_once() -> None:
    old, shown, same, new = line(0, "old"), line(1, "shown"), line(2, "again"), line(2, "new")
    unseen = Unseen([shown])
    assert unseen.of([old, shown, same]) == [same]  # the first reading asked for fewer lines than the next ones
    assert unseen.of([shown, same, same, new]) == [same, new]
    assert unseen.of([same, same, new]) == []


def test_a_journal_entry() -> None:
    micros = int(NOON.timestamp() * 1e6) + 123456
    stamp = f'"__REALTIME_TIMESTAMP":"{micros}"'
    found = journal(
        f'{{{stamp},"_SYSTEMD_UNIT":"raftctl-controller.service","MESSAGE":"2026-11-22 13:00:00,1 db1 raft: leader"}}',
        f'{{{stamp},"_SYSTEMD_UNIT":"init.scope","UNIT":"mysql.service","MESSAGE":"Started MySQL."}}',
        f'{{{stamp},"_SYSTEMD_UNIT":"mysql.service","MESSAGE":[104,105,255]}}',
        f'{{{stamp},"_SYSTEMD_UNIT":"mysql.service","MESSAGE":null}}',
    )
    at = NOON + dt.timedelta(microseconds=123456)
    assert found == [
        LogLine(at, "db1", "controller", "raft: leader"),
        LogLine(at, "db1", "mysqld", "Started MySQL."),
        LogLine(at, "db1", "mysqld", "hi\N{REPLACEMENT CHARACTER}"),
        LogLine(at, "db1", "mysqld", ""),
    ]


@pytest.mark.parametrize("output", ["{", "-- No entries --", '{"MESSAGE":"without a time"}'])
def test_a_journal_that_cannot_be_read(output: str) -> None:
    with pytest.raises(HostError, match="db1: journalctl"):
        journal(output)


def test_the_times_of_files() -> None:
    east = dt.timezone(dt.timedelta(hours=2))
    assert file("2026-11-22 14:00:00,250 db1 begins", zone=east) == [(NOON + dt.timedelta(seconds=0.25), "begins")]
    assert file("2026-11-22T14:00:00 mysqld: started", zone=east) == [(NOON, "mysqld: started")]
    assert file("2026-11-22T12:00:00.5Z 0 [Note] ready", zone=east) == [
        (NOON + dt.timedelta(seconds=0.5), "0 [Note] ready")
    ]


def test_a_line_without_a_time_belongs_to_the_one_before() -> None:
    found = file("cut off", "2026-11-22 12:00:00,000 db1 failed", "Traceback", "  File x")
    assert found == [(NOON, "failed"), (NOON, "Traceback"), (NOON, "  File x")]
