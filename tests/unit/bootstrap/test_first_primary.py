"""Who becomes the first primary: never a member that lacks what another one has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftctl.bootstrap.primary import FirstPrimary, PrimaryRefusal, choose_primary
from raftctl.bootstrap.survey import MySQLSurvey, ReplicationChannel, UserTables
from raftctl.cluster.gtid import GTIDSet
from raftctl.errors import RefusedError
from raftctl.inventory.load import parse_inventory

A, B = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"

HOSTS = (
    parse_inventory(b"""
orders:
  vars: {raftctl: }
  hosts:
    db3: {raftctl_priority: 5}
    db1: {raftctl_priority: 5}
    db2: {}
    ro1: {raftctl_role: async, raftctl_priority: 99}
    w1: {raftctl_role: witness}
""")
    .cluster()
    .hosts
)


def server(
    executed: str = "",
    *,
    purged: str = "",
    follows: str = "",
    read_only: bool = True,
    tables: int | None = 0,
    unused: bool = False,
) -> MySQLSurvey:
    return MySQLSurvey(
        version="8.4.3",
        server_uuid="u",
        variables={"read_only": "ON" if read_only else "OFF"},
        dynamic=frozenset(),
        plugins=frozenset(),
        gtid_executed=GTIDSet.parse(executed),
        gtid_purged=GTIDSet.parse(purged),
        tables=None if tables is None else UserTables(tables, 0),
        tls=True,
        channels=(ReplicationChannel("", follows, 3306),) if follows else (),
        unused=unused,
    )


def choose(**servers: MySQLSurvey) -> FirstPrimary:
    return choose_primary(HOSTS, {name: servers.get(name, server()) for name in ("db1", "db2", "db3", "ro1")})


def refusal(**servers: MySQLSurvey) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        choose(**servers)
    assert caught.value.hint
    return caught.value


def test_without_data_the_highest_priority_then_the_first_name() -> None:
    assert choose() == FirstPrimary("db1", "no member has any data")


def test_the_only_member_with_data_whatever_its_priority() -> None:
    chosen = choose(db2=server(f"{A}:1-9", tables=4, read_only=False))
    assert chosen == FirstPrimary("db2", "the only member with data", seeds=("db3", "db1", "ro1"))


def test_an_existing_primary_with_replicas_is_adopted() -> None:
    replica = server(f"{A}:1-9", follows="db2")
    chosen = choose(db1=replica, db2=server(f"{A}:1-9", read_only=False), db3=replica, ro1=replica)
    assert (chosen.name, chosen.seeds) == ("db2", ())


def test_of_equal_read_only_members_the_one_that_follows_nobody() -> None:
    replica = server(f"{A}:1-9", follows="db2")
    assert choose(db1=replica, db2=server(f"{A}:1-9"), db3=replica).name == "db2"


def test_a_replica_that_lags_is_not_copied_to_but_catches_up() -> None:
    lagging = server(f"{A}:1-5", follows="db2")
    chosen = choose(db1=lagging, db2=server(f"{A}:1-9"), db3=lagging)
    assert (chosen.name, chosen.seeds) == ("db2", ("ro1",))


def test_a_replica_that_lacks_purged_transactions_is_copied_to() -> None:
    lagging = server(f"{A}:1-5", follows="db2")
    assert choose(db1=lagging, db2=server(f"{A}:1-9", purged=f"{A}:1-6")).seeds == ("db3", "db1", "ro1")


def test_diverged_members_are_refused_with_who_has_what() -> None:
    error = refusal(db1=server(f"{A}:1-9,{B}:1-2"), db2=server(f"{A}:1-10"))
    assert error.reason == PrimaryRefusal.DIVERGED
    assert str(error) == "db1 has 2 transactions that db2 lacks, and db2 has 1 that db1 lacks"


def test_a_member_that_is_never_promoted_cannot_be_the_one_with_the_data() -> None:
    error = refusal(ro1=server(f"{A}:1-9"))
    assert error.reason == PrimaryRefusal.DIVERGED
    assert "ro1 has transactions that no data member has" in str(error)


def test_two_that_take_writes_are_refused() -> None:
    both = server(f"{A}:1-9", read_only=False)
    assert refusal(db1=both, db2=both).reason == PrimaryRefusal.SEVERAL_WRITABLE


def test_tables_without_gtids_are_refused() -> None:
    assert refusal(db2=server(tables=3)).reason == PrimaryRefusal.DATA_WITHOUT_GTIDS
    assert choose(db2=server(tables=None)).name == "db1"  # raftctl's own account cannot see tables


def test_a_source_outside_the_cluster_is_refused() -> None:
    assert refusal(db2=server(f"{A}:1", follows="elsewhere")).reason == PrimaryRefusal.FOREIGN_SOURCE


_sets = st.sets(st.tuples(st.sampled_from([A, B]), st.integers(1, 4)), max_size=5)


@settings(deadline=None)  # the machine may be busy
@given(db1=_sets, db2=_sets, db3=_sets, ro1=_sets)
def test_the_chosen_one_has_everything(**holdings: set[tuple[str, int]]) -> None:
    texts = {name: ",".join(f"{uuid}:{n}" for uuid, n in sorted(held)) for name, held in holdings.items()}
    everything = set().union(*holdings.values())
    possible = any(holdings[name] == everything for name in ("db1", "db2", "db3"))
    servers = {name: server(text) for name, text in texts.items()}
    if not possible:
        assert refusal(**servers).reason == PrimaryRefusal.DIVERGED
        return
    chosen = choose(**servers)
    assert holdings[chosen.name] == everything
    assert chosen.name not in chosen.seeds
    assert all(not holdings[name] for name in chosen.seeds), "nothing is copied over data (nothing is purged here)"


def test_what_installations_wrote_is_nobodys_data() -> None:
    first = choose(
        db1=server(f"{A}:1", unused=True), db2=server(f"{B}:1", unused=True), db3=server(unused=True), ro1=server()
    )
    assert (first.name, first.seeds, first.resets) == ("db1", (), ("db1", "db2"))


def test_an_unused_server_is_seeded_from_the_one_with_data() -> None:
    first = choose(db1=server(f"{A}:1", unused=True), db2=server(f"{B}:1-9"), db3=server(), ro1=server())
    assert (first.name, first.resets) == ("db2", ())
    assert set(first.seeds) == {"db1", "db3", "ro1"}
