"""`raftctl history`: golden table, order, durations, the freshest member."""

from __future__ import annotations

import json
import textwrap

from raftctl.cli.history_view import timed
from raftctl.cluster.state import HistoryEntry

BEGAN = 1_700_000_000_000


def entries() -> list[HistoryEntry]:
    return [
        HistoryEntry(index=3, at_ms=BEGAN - 60_000, kind="init-cluster", epoch=1, by="eve@host", after="db1"),
        HistoryEntry(
            index=7,
            at_ms=BEGAN,
            kind="begin-failover",
            epoch=2,
            by="raftctl",
            why="db1: mysqld died",
            before="db1",
            detail={"cause": "mysqld-dead"},
        ),
        HistoryEntry(
            index=8,
            at_ms=BEGAN + 41,
            kind="promote",
            epoch=2,
            by="raftctl",
            member="db2",
            why="most advanced",
            after="db2",
        ),
        HistoryEntry(
            index=9, at_ms=BEGAN + 65, kind="complete-promotion", epoch=2, by="raftctl", before="db2", after="db2"
        ),
    ]


def test_steps_of_a_change_carry_the_time_since_it_began():
    assert [entry.seconds for entry in timed(entries())] == [None, None, 0.041, 0.065]


def test_clocks_that_disagree_give_no_duration():
    begun, promoted = entries()[1:3]
    late = HistoryEntry(index=7, at_ms=promoted.at_ms + 5, kind=begun.kind, epoch=2, by="raftctl")
    assert timed([late, promoted])[1].seconds is None


def test_table(orders, raftctl):
    for name in ("db1", "db2", "db3"):
        orders.add(name, {"GET /v1/history": (200, entries())})
    done = raftctl("history")
    lines = "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())
    assert lines == textwrap.dedent("""\
        TIME (UTC)               EVENT               MEMBER  EPOCH  PRIMARY     TOOK  BY        WHY
        2023-11-14 22:12:20.000  init-cluster                    1  - -> db1          eve@host
        2023-11-14 22:13:20.000  begin-failover                  2  db1 -> -          raftctl   db1: mysqld died
        2023-11-14 22:13:20.041  promote             db2         2  - -> db2  0.041s  raftctl   most advanced
        2023-11-14 22:13:20.065  complete-promotion              2  db2       0.065s  raftctl
    """)
    assert done.returncode == 0


def test_a_change_of_settings_says_what_was_changed(orders, raftctl):
    detail = {"durability": "majority -> all"}
    change = HistoryEntry(index=9, at_ms=BEGAN, kind="change-settings", epoch=2, by="eve@host", detail=detail)
    orders.add("db1", {"GET /v1/history": (200, [change])})
    assert "eve@host  durability: majority -> all\n" in raftctl("history").stdout


def test_json_has_everything(orders, raftctl):
    for name in ("db1", "db2", "db3"):
        orders.add(name, {"GET /v1/history": (200, entries())})
    found = json.loads(raftctl("history", "-o", "json", "-n", "3").stdout)
    assert [entry["kind"] for entry in found] == ["begin-failover", "promote", "complete-promotion"]
    assert found[0]["at"] == "2023-11-14T22:13:20.000Z"
    assert found[0] | {"at": "", "at_ms": 0} == {
        "index": 7,
        "at": "",
        "at_ms": 0,
        "kind": "begin-failover",
        "epoch": 2,
        "by": "raftctl",
        "member": "",
        "why": "db1: mysqld died",
        "before": "db1",
        "after": "",
        "seconds": None,
        "detail": {"cause": "mysqld-dead"},
    }


def test_freshest_member_wins(orders, raftctl):
    orders.add("db1", {"GET /v1/history": (200, entries()[:1])})
    orders.add("db2", {"GET /v1/history": (200, entries())})
    orders.add("db3", {"GET /v1/history": (200, [])})
    assert len(json.loads(raftctl("history", "-o", "json", "-n", "0").stdout)) == 4


def test_nobody_answers(orders, raftctl):
    for name in ("db1", "db2", "w1"):
        orders.add_down(name)
    done = raftctl("history")
    assert (done.returncode, done.stdout) == (3, "")
    assert "connection refused" in done.stderr
