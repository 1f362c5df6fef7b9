"""GTIDSet against the server's own GTID functions and canonical text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.mysql.client import Connection
from tests.support.mysql_members import MySQLMember

pytestmark = pytest.mark.mysql

UUIDS = ["3e11fa47-71ca-11e1-9e33-c80aa9429562", "4350f323-7565-4e59-8763-4b1b83a0ce0e"]

intervals = st.builds(
    lambda uuid, tag, first, length: Interval(uuid, tag, first, first + length),
    st.sampled_from(UUIDS),
    st.sampled_from(["", "blue", "red_1"]),
    st.integers(1, 40),
    st.integers(0, 10),
)
gtid_sets = st.lists(intervals, max_size=8).map(GTIDSet)


@pytest.fixture(scope="module")
def session(standing: MySQLMember) -> Iterator[Connection]:
    with standing.root() as conn:
        yield conn


@settings(max_examples=200, deadline=None)
@given(a=gtid_sets, b=gtid_sets)
def test_algebra_agrees_with_the_server(session: Connection, a: GTIDSet, b: GTIDSet) -> None:
    row = session.query(
        "SELECT GTID_SUBSET(%s, %s) AS subset, GTID_SUBTRACT(%s, %s) AS difference, GTID_SUBTRACT(%s, '') AS canonical,"
        " GTID_SUBTRACT(CONCAT(%s, ',', %s), '') AS together",
        (str(a), str(b), str(a), str(b), str(a), str(a), str(b)),
    )[0]
    assert bool(row["subset"]) == (a <= b)
    assert row["difference"].replace("\n", "") == str(a - b)
    assert row["canonical"].replace("\n", "") == str(a)
    assert row["together"].replace("\n", "") == str(a | b)
    assert GTIDSet.parse(row["difference"]) == a - b
