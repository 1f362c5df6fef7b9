"""Reading an inventory: Ansible's rules for groups, variables and ranges, and what raftctl makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.cluster.membership import what_is_wrong
from raftctl.cluster.state import Engine, Member, MemberRole, Settings
from raftctl.errors import UsageError
from raftctl.inventory.groups import expand
from raftctl.inventory.load import find_inventory, load_inventory, parse_inventory
from raftctl.inventory.model import ClusterInventory, Connection

EXAMPLE = Path(__file__).parents[3] / "inventory.example.yaml"

PUBLIC_FORM = """
all:
  children:
    orders:
      vars:
        ansible_user: dba
        raftctl:
          engine: semi-sync            # or: group
          durability: majority         # majority | all | async | a number of replica acknowledgements
          durability_policy: strict    # strict | available
          raft: {election_timeout: 1s, heartbeat_interval: 100ms, log_batch_size: 100}
          monitoring: {enabled: true}
          failover: {automatic: true, cooldown: 60s}
          mysql: {port: 3306, socket: /run/mysqld/mysqld.sock}
          hooks: {after_promote: /etc/raftctl/hooks/after_promote}
      hosts:
        db1: {ansible_host: 192.0.2.11, raftctl_zone: a, raftctl_priority: 100}
        db2: {ansible_host: 192.0.2.12, raftctl_zone: b}
        db3: {ansible_host: 192.0.2.13, raftctl_zone: c, raftctl_role: data}   # data | witness | async
"""


def only_cluster(text: str) -> ClusterInventory:
    return parse_inventory(text.encode()).cluster()


def test_the_documented_form() -> None:
    cluster = only_cluster(PUBLIC_FORM)
    assert (cluster.name, cluster.engine) == ("orders", Engine.SEMI_SYNC)
    assert cluster.hooks == {"after_promote": "/etc/raftctl/hooks/after_promote"}
    assert cluster.settings() == Settings()
    db1 = cluster.host("db1")
    assert (db1.ssh.user, db1.ssh.port, db1.connection) == ("dba", 22, Connection.SSH)
    assert db1.member == Member(
        name="db1",
        role=MemberRole.DATA,
        raft="192.0.2.11:8007",
        api="192.0.2.11:8008",
        mysql="192.0.2.11:3306",
        zone="a",
        priority=100,
    )
    assert cluster.members()["db3"].zone == "c"


def test_the_example_file_loads_and_shows_the_defaults() -> None:
    inventory = load_inventory(EXAMPLE)
    assert list(inventory.clusters) == ["orders", "billing"]
    assert inventory.cluster("orders").settings() == Settings()
    billing = inventory.cluster("billing")
    assert billing.settings() == Settings(durability_policy="available")
    assert [host.name for host in billing.hosts] == ["bill1", "bill2", "bill-witness"]
    assert billing.host("bill-witness").member.mysql is None


def test_an_empty_raftctl_mapping_is_a_cluster_with_defaults() -> None:
    cluster = only_cluster("orders: {vars: {raftctl: }, hosts: {db1: }}")
    assert cluster.settings() == Settings()
    host = cluster.host("db1")
    assert (host.address, host.mysql_port, host.raft_port, host.api_port) == ("db1", 3306, 8007, 8008)
    assert (host.directory, host.services, host.role) == ("/var/lib/raftctl", "", MemberRole.DATA)


def test_every_setting_reaches_the_model() -> None:
    cluster = only_cluster("""
orders:
  vars:
    raftctl:
      engine: group
      durability: 1
      durability_policy: available
      raft: {election_timeout: 2s, heartbeat_interval: 50ms, log_batch_size: 7}
      failover: {automatic: false, cooldown: 1.5m}
      monitoring: {enabled: false}
      mysql: {port: 3307, socket: /tmp/m.sock, admin_user: dba, admin_password_file: /root/pw}
  hosts:
    db1:
      ansible_connection: local
      ansible_host: 127.0.0.1
      raftctl_address: 192.0.2.1
      raftctl_mysql_port: 1
      raftctl_mysql_socket: /a.sock
      raftctl_raft_port: 2
      raftctl_api_port: 3
      raftctl_dir: /d
      raftctl_services: /s
      raftctl_zone: 1
      raftctl_priority: -5
    db2: {raftctl_role: data}
    w1: {raftctl_role: witness, ansible_port: 2222, ansible_ssh_private_key_file: ~/.ssh/k}
""")
    assert cluster.settings() == Settings(
        durability="1",
        durability_policy="available",
        failover_automatic=False,
        failover_cooldown=90.0,
        election_timeout=2.0,
        heartbeat_interval=0.05,
    )
    assert (cluster.engine, cluster.log_batch_size, cluster.monitoring) == (Engine.GROUP, 7, False)
    assert (cluster.admin.user, cluster.admin.password_file) == ("dba", "/root/pw")
    db1 = cluster.host("db1")
    assert (db1.member.raft, db1.member.api, db1.member.mysql) == ("192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:1")
    assert (db1.mysql_socket, db1.directory, db1.services) == ("/a.sock", "/d", "/s")
    assert (db1.zone, db1.priority, db1.connection) == ("1", -5, Connection.LOCAL)
    assert (cluster.host("db2").mysql_port, cluster.host("db2").mysql_socket) == (3307, "/tmp/m.sock")
    assert (cluster.host("w1").ssh.port, cluster.host("w1").ssh.key_file) == (2222, "~/.ssh/k")


def test_a_host_wins_over_its_group_over_the_parent_over_all() -> None:
    cluster = only_cluster("""
all:
  vars: {raftctl_zone: all, raftctl_priority: 1, ansible_port: 1, ansible_user: all}
  children:
    orders:
      vars: {raftctl: {}, raftctl_zone: parent, raftctl_priority: 2, ansible_port: 2}
      children:
        east:
          vars: {raftctl_zone: child, raftctl_priority: 3}
          hosts: {db1: {raftctl_zone: host}}
""")
    host = cluster.host("db1")
    assert (host.zone, host.priority, host.ssh.port, host.ssh.user) == ("host", 3, 2, "all")


def test_a_group_may_be_mentioned_in_several_places() -> None:
    cluster = only_cluster("""
all:
  children:
    orders: {children: {east: , west: }}
    east: {hosts: {db1: {raftctl_zone: e}}}
west: {hosts: "db[2:3]", vars: {raftctl_zone: w}}
orders: {vars: {raftctl: {}}}
""")
    assert [(host.name, host.zone) for host in cluster.hosts] == [("db1", "e"), ("db2", "w"), ("db3", "w")]


def test_other_variables_and_groups_are_ansibles_business() -> None:
    cluster = only_cluster("""
web: {hosts: {"web[1:50]": {nginx_port: 80}}, vars: {ntp: "{{ lookup('x') }}"}}
orders: {vars: {raftctl: {}, backup: {at: 03:00, keep: [1, 2]}}, hosts: {db1: {rack: 2026-01-01}}}
""")
    assert [host.name for host in cluster.hosts] == ["db1"]


def test_the_merge_key_and_anchors_work() -> None:
    cluster = only_cluster("""
orders:
  vars: {raftctl: {}}
  hosts:
    db1: &local {ansible_connection: local, raftctl_zone: a}
    db2: {<<: *local, raftctl_zone: b, ansible_host: 192.0.2.2, raftctl_dir: /b, raftctl_mysql_socket: /b.sock}
    db3: {raftctl_zone: c}
""")
    assert [(host.zone, host.connection.value) for host in cluster.hosts] == [
        ("a", "local"),
        ("b", "local"),
        ("c", "ssh"),
    ]


def test_an_ipv6_address_gets_brackets() -> None:
    member = only_cluster('o: {vars: {raftctl: }, hosts: {db1: {ansible_host: "2001:db8::1"}}}').host("db1").member
    assert member.raft == "[2001:db8::1]:8007"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("db1", ["db1"]),
        ("db[1:3]", ["db1", "db2", "db3"]),
        ("db[08:11].example", ["db08.example", "db09.example", "db10.example", "db11.example"]),
        ("db[a:c]", ["dba", "dbb", "dbc"]),
        ("db[0:6:3]", ["db0", "db3", "db6"]),
        ("db[:1]", ["db0", "db1"]),
        ("r[1:2]-db[x:y]", ["r1-dbx", "r1-dby", "r2-dbx", "r2-dby"]),
    ],
)
def test_host_ranges(pattern: str, names: list[str]) -> None:
    assert expand(pattern, ()) == names


def test_credentials_live_beside_the_inventory(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(PUBLIC_FORM)
    assert load_inventory(path).cluster("orders").credentials == tmp_path / ".raftctl" / "orders"


def test_the_inventory_is_found_by_flag_then_variable_then_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAFTCTL_INVENTORY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no inventory: looked for "):
        find_inventory()
    user_file = tmp_path / "home/.config/raftctl/inventory.yaml"
    user_file.parent.mkdir(parents=True)
    user_file.touch()
    assert find_inventory() == user_file
    (tmp_path / "inventory.yaml").touch()
    assert find_inventory() == Path("inventory.yaml")
    named = tmp_path / "named.yaml"
    named.touch()
    monkeypatch.setenv("RAFTCTL_INVENTORY", str(named))
    assert find_inventory() == named
    assert find_inventory(str(user_file)) == user_file
    with pytest.raises(UsageError, match="there is no inventory file nowhere"):
        find_inventory("nowhere")


@pytest.mark.parametrize(
    "host",
    [
        "{}",
        "{ansible_host: 192.0.2.1}",
        "{ansible_host: '2001:db8::1'}",
        "{ansible_host: 'fe80::1%eth0'}",
        "{ansible_host: db-1.example_site.com.}",
        f"{{raftctl_zone: {'x' * 255}, raftctl_priority: -1000000}}",
        "{raftctl_role: witness}",
    ],
)
def test_what_an_inventory_may_say_a_cluster_can_begin_with(host: str) -> None:
    """The log refuses members that could never work: not after the hosts have been prepared for them."""
    text = f"orders: {{vars: {{raftctl: {{}}}}, hosts: {{db1: {host}, db2: {{}}}}}}"
    for member in parse_inventory(text.encode()).cluster().members().values():
        assert what_is_wrong(member) == ""
