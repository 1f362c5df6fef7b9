"""What `sandbox up` decides on: members, ports, the inventory; and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.cluster.state import MemberRole
from raftctl.errors import UsageError
from raftctl.inventory.load import parse_inventory
from raftctl.inventory.model import ClusterInventory
from raftctl.sandbox.layout import Layout, Shape, inventory, load, parse_settings, plan, save

HOME = Path("/srv/sandbox")


def shape(*, nodes: int = 3, witnesses: int = 0, settings: dict[str, str] | None = None) -> Shape:
    return Shape(nodes=nodes, witnesses=witnesses, namespaces=False, settings=settings or {})


def cluster(layout: Layout) -> ClusterInventory:
    return parse_inventory(inventory(HOME, layout).encode()).cluster()


def test_members_have_distinct_ports_on_loopback() -> None:
    layout = plan(HOME, shape(nodes=2, witnesses=1))
    assert layout.names == ["db1", "db2", "w1"]
    ports = [p for m in layout.members for p in (m.mysql_port, m.admin_port, m.raft_port, m.api_port)]
    assert len(set(ports)) == 12
    assert {member.address for member in layout.members} == {"127.0.0.1"}
    assert layout.shape == shape(nodes=2, witnesses=1)


def test_the_inventory_is_one_that_raftctl_reads() -> None:
    layout = plan(HOME, shape(nodes=2, witnesses=1))
    read = cluster(layout)
    assert read.name == "sandbox"
    assert [(host.name, host.role) for host in read.hosts] == [
        ("db1", MemberRole.DATA),
        ("db2", MemberRole.DATA),
        ("w1", MemberRole.WITNESS),
    ]
    db2 = read.host("db2")
    member = layout.member("db2")
    assert (db2.mysql_port, db2.raft_port, db2.api_port) == (member.mysql_port, member.raft_port, member.api_port)
    assert db2.directory == "/srv/sandbox/db2"
    assert db2.mysql_socket == "/srv/sandbox/db2/run/mysqld.sock"
    assert db2.services == "/srv/sandbox/db2/run/supervisor.sock"


def test_settings_go_to_their_sections_with_their_types() -> None:
    settings = parse_settings(["failover.cooldown=5s", "durability=1", "failover.automatic=false", "durability=2"])
    read = cluster(plan(HOME, shape(settings=settings)))
    assert (read.failover_cooldown, read.failover_automatic, read.durability) == (5.0, False, "2")


@pytest.mark.parametrize("text", ["failover.cooldown", "=5s", "failover.=5s", ".cooldown=5s"])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        parse_settings([text])


def test_a_setting_that_is_value_and_section_is_refused() -> None:
    with pytest.raises(UsageError, match=r"raft\.x"):
        inventory(HOME, plan(HOME, shape(settings={"raft": "1", "raft.x": "2"})))


@pytest.mark.parametrize(("nodes", "witnesses"), [(0, 1), (1, -1), (10, 0), (8, 2)])
def test_a_sandbox_has_one_to_nine_members(nodes: int, witnesses: int) -> None:
    with pytest.raises(UsageError, match="1 to 9"):
        plan(HOME, shape(nodes=nodes, witnesses=witnesses))


def test_a_path_too_long_for_unix_sockets_is_refused() -> None:
    with pytest.raises(UsageError, match="too long"):
        plan(Path("/" + "d" * 90), shape())


def test_it_is_read_back_as_saved(tmp_path: Path) -> None:
    layout = plan(HOME, shape(witnesses=2, settings={"durability": "all"}))
    save(tmp_path, layout)
    assert load(tmp_path) == layout
    assert [path.name for path in tmp_path.iterdir()] == ["sandbox.json"]


def test_a_directory_without_a_layout_is_no_sandbox(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a sandbox"):
        load(tmp_path)
    (tmp_path / "sandbox.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot read"):
        load(tmp_path)
