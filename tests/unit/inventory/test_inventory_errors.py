"""What is wrong in an inventory is said with the path to it, and nothing but a UsageError ever comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftctl.errors import UsageError
from raftctl.inventory.load import find_inventory, load_inventory, parse_inventory
from raftctl.inventory.relations import require_odd_number


def refusal(text: str | bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_inventory(text.encode() if isinstance(text, str) else text)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_file_that_cannot_be_looked_for_is_bad_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x" * 300, "/nowhere/inventory.yaml"):
        with pytest.raises(UsageError, match=name):
            find_inventory(name)
        monkeypatch.setenv("RAFTCTL_INVENTORY", name)
        with pytest.raises(UsageError, match=name):
            find_inventory()


def orders(*, raftctl: str = "{}", db2: str = "{}", more: str = "") -> str:
    return f"""
all:
  children:
    orders:
      vars: {{raftctl: {raftctl}}}
      hosts:
        db1: {{}}
        db2: {db2}
        db3: {{}}
{more}
"""


@pytest.mark.parametrize(
    ("db2", "message"),
    [
        ("{raftctl_role: master}", "orders -> db2 -> raftctl_role: must be data, witness or async"),
        ("{raftctl_role: [data]}", "orders -> db2 -> raftctl_role: must be data, witness or async"),
        (f"{{raftctl_zone: {'x' * 256}}}", "orders -> db2 -> raftctl_zone: must be a text of at most 255 characters"),
        ("{raftctl_prio: 1}", "orders -> db2 -> raftctl_prio: is not a setting"),
        ("{raftctlzone: 1}", "orders -> db2 -> raftctlzone: is not a setting: raftctl's begin with raftctl_"),
        ("{raftctl: {}}", "orders -> db2 -> raftctl: stands at a host"),
        ("{raftctl_priority: high}", "orders -> db2 -> raftctl_priority: must be a whole number, not 'high'"),
        ("{raftctl_api_port: 70000}", "orders -> db2 -> raftctl_api_port: must be 1 to 65535, not 70000"),
        ("{raftctl_api_port: true}", "orders -> db2 -> raftctl_api_port: must be a whole number, not true"),
        ("{raftctl_dir: var/lib}", "orders -> db2 -> raftctl_dir: must be an absolute path, not 'var/lib'"),
        ("{ansible_connection: winrm}", "orders -> db2 -> ansible_connection: must be ssh or local"),
        ("{ansible_port: ssh}", "orders -> db2 -> ansible_port: must be a whole number, not 'ssh'"),
        ("{ansible_host: 'a b'}", "orders -> db2 -> ansible_host: must be an IP address or a host name, not 'a b'"),
        ("{ansible_host: '{{ ip }}'}", "orders -> db2 -> ansible_host: is a template, which raftctl does not evaluate"),
        ("{ansible_host: !vault abc}", "orders -> db2 -> ansible_host: is encrypted with Ansible Vault"),
        ("{ansible_host: db1}", "orders -> db2 -> raftctl_raft_port: db1:8007 is taken by db1's raftctl_raft_port"),
        ("{raftctl_raft_port: 8008}", "orders -> db2 -> raftctl_api_port: db2:8008 is also this host's"),
        ("[]", "all -> orders -> db2: must be a mapping (`key: value` lines), not a list"),
        ("{1: 2}", "all -> orders -> db2: the key 1 must be a text"),
    ],
)
def test_faults_at_a_host(db2: str, message: str) -> None:
    assert message in str(refusal(orders(db2=db2)))


@pytest.mark.parametrize(
    ("raftctl", "message"),
    [
        ("{engine: galera}", "orders -> raftctl -> engine: must be semi-sync or group"),
        ("{durability: most}", "orders -> raftctl -> durability: must be majority, all, async or a number"),
        ("{durability: 0}", "orders -> raftctl -> durability: must be majority, all, async or a number"),
        ("{durability: yes}", "orders -> raftctl -> durability: must be majority, all, async or a number"),
        ("{durability: 3}", "orders -> raftctl -> durability (3): 3 data members have at most 2 replicas"),
        ("{durability_policy: lax}", "orders -> raftctl -> durability_policy: must be strict or available"),
        ("{raft: {election_timeout: 1}}", "orders -> raftctl -> raft -> election_timeout: must be a duration, not 1"),
        ("{raft: {election_timeout: 1 day}}", "raft -> election_timeout: must be a duration, not '1 day'"),
        ("{raft: {election_timeout: -1s}}", "raft -> election_timeout: must be a duration, not '-1s'"),
        ("{raft: {election_timeout: 1ms}}", "raft -> election_timeout: must be at least 50ms, not 1ms"),
        (
            "{raft: {heartbeat_interval: 2s}}",
            "orders -> raftctl -> raft: heartbeat_interval (2s) must be below election_timeout (1s)",
        ),
        (
            "{raft: {heartbeat_interval: 100ms, election_timeout: 100ms}}",
            "heartbeat_interval (100ms) must be below election_timeout (100ms)",
        ),
        ("{raft: {log_batch_size: 0}}", "raft -> log_batch_size: must be 1 to 10000, not 0"),
        ("{raft: fast}", "orders -> raftctl -> raft: must be a mapping"),
        ("{failover: {automatic: on-demand}}", "failover -> automatic: must be true or false, not 'on-demand'"),
        ("{failover: {delay: 1s}}", "orders -> raftctl -> failover -> delay: is not a setting"),
        ("{hooks: {after_promote: run me}}", "hooks -> after_promote: must be an absolute path, not 'run me'"),
        ("{mysql: {password: x}}", "orders -> raftctl -> mysql -> password: is not a setting"),
        ("3", "orders -> raftctl: must be a mapping (`key: value` lines), not 3"),
    ],
)
def test_faults_in_the_settings(raftctl: str, message: str) -> None:
    assert message in str(refusal(orders(raftctl=raftctl)))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (orders(raftctl="{durabilty: all}"), "did you mean durability?"),
        (orders(db2="{raftctl_prioritty: 1}"), "did you mean raftctl_priority?"),
        (orders(raftctl="{raft: {election_timeout: 5}}"), "write 100ms, 1s, 2m or 1h"),
        (orders(raftctl="{monitoring: {x: 1}}"), "it can be enabled"),
        ("orders: {host: {db1: }}", "did you mean hosts? (variables stand under vars)"),
    ],
)
def test_hints(text: str, hint: str) -> None:
    assert refusal(text).hint == hint


def test_a_value_from_a_group_is_blamed_on_the_group() -> None:
    text = "east: {vars: {raftctl_role: x}, hosts: {db1: }}\norders: {vars: {raftctl: }, children: {east: }}"
    assert str(refusal(text)) == "east -> vars -> raftctl_role: must be data, witness or async"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "inventory.yaml is empty"),
        ("# nothing\n", "inventory.yaml is empty"),
        ("just words", "the inventory: must be a mapping"),
        ("[orders]\ndb1\n", "inventory.yaml: line 2"),  # an INI inventory
        ("a: b: c", "inventory.yaml: line 1, column 5: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "inventory.yaml: line 2, column 1: but found another document"),
        ("orders: {}\nweb: {}\norders: {}", "line 3, column 1: the key 'orders' stands here twice"),
        ("o: {vars: {raftctl: {durability: all, durability: async}}}", "the key 'durability' stands here twice"),
        ("? [a]\n: b", "a key must be a text"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: *b", "found undefined alias 'b'"),
        ("&a [*a]", "the inventory: must be a mapping"),
        ("all: {children: &c {orders: {children: *c}}}", "found unconstructable recursive node"),
        ("a: {children: {b: }}\nb: {children: {a: }}", "a group cannot be below itself"),
        ("a: {children: {all: }}", "a group cannot be below itself"),
        ("o: {hosts: {'db[1:99999999]': }}", "stands for more than 1000 hosts"),
        ("o: {hosts: {'d[0:99]b[0:99]': }}", "stands for more than 1000 hosts"),
        ("o: {hosts: {'db[3:1]': }}", "the range ends before it begins"),
        ("o: {hosts: {'db[1:b]': }}", "holds a range that cannot be read"),
        ("o: {hosts: {'db[1:9:0]': }}", "holds a range that cannot be read"),
        ("o: {hosts: {'db[01:100]': }}", "must have the same number of digits"),
        ("o: {hosts: [db1, db2]}", "o -> hosts: must be a mapping"),
        ("o: {hosts: {db1: }}", "holds no cluster: no group has `raftctl:` among its vars"),
        ("o: {vars: {raftctl: }}", "o: has no hosts"),
        ("o: {vars: {raftctl: }, hosts: {'db 1': }}", "o -> db 1: a host's name holds letters"),
        ("'a/b': {vars: {raftctl: }, hosts: {db1: }}", "a/b: a cluster's name holds letters"),
        ("o: {vars: {raftctl: }, hosts: {w1: {raftctl_role: witness}}}", "o: has no host with raftctl_role data"),
        ("o: {vars: {raftctl: }, hosts: db1.prod.example.com}", "the name is longer than 19 characters"),
        ("{a: {vars: {raftctl: }, hosts: d}, b: {vars: {raftctl: }, hosts: d}}", "b -> d: is also a member of a"),
        (
            "all: {vars: {ansible_host: h}}\na: {vars: {raftctl: }, hosts: x}\nb: {vars: {raftctl: }, hosts: y}",
            "b -> y -> raftctl_raft_port: h:8007 is taken by x's raftctl_raft_port",
        ),
        (
            "o: {vars: {raftctl: , ansible_connection: local}, hosts: 'd[1:3]'}",
            "o -> d2 -> raftctl_dir: /var/lib/raftctl is taken by d1's raftctl_dir",
        ),
        (
            "o: {vars: {raftctl: }, hosts: {d1: {ansible_host: 127.0.0.1, ansible_port: 2222}, d2: , d3: }}",
            "o -> d1: the other members cannot reach it at 127.0.0.1",
        ),
        ("x: 0x_", "holds a value that cannot be read"),
        ("x: " + "9" * 5000, "holds a value that cannot be read"),
        ("[" * 5000, "is nested too deeply"),
        (b"\xff\xfe\xff", "is not UTF-8 text (byte 0)"),
        (b"a: \x00", "holds a character that YAML does not allow"),
        (b"#" * 2_000_000, "is larger than 1024 KiB"),
    ],
)
def test_faults_of_the_file(text: str | bytes, message: str) -> None:
    assert message in str(refusal(text))


def test_a_deep_chain_of_groups_is_refused() -> None:
    chain = "\n".join(f"g{n}: {{children: {{g{n + 1}: }}}}" for n in range(2000))
    assert "nested more than 50 deep" in str(refusal(chain))


def test_aliases_cannot_make_the_work_explode() -> None:
    levels = ["a0: &a0 {hosts: db1}"]
    levels += [f"a{n}: &a{n} {{children: {{x{n}: *a{n - 1}, y{n}: *a{n - 1}}}}}" for n in range(1, 25)]
    assert "holds no cluster" in str(refusal("\n".join(levels)))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"cannot read {tmp_path}/none: No such file or directory"):
        load_inventory(tmp_path / "none")
    with pytest.raises(UsageError, match=f"cannot read {tmp_path}: Is a directory"):
        load_inventory(tmp_path)


def test_a_cluster_is_chosen_by_name_when_there_are_several() -> None:
    inventory = parse_inventory(b"{a: {vars: {raftctl: }, hosts: x}, b: {vars: {raftctl: }, hosts: y}}")
    assert inventory.cluster("b").name == "b"
    with pytest.raises(UsageError, match="holds several clusters: a, b") as caught:
        inventory.cluster()
    assert caught.value.hint == "choose one with -c NAME"
    with pytest.raises(UsageError, match="has no cluster c"):
        inventory.cluster("c")
    with pytest.raises(UsageError, match="z is not a member of a"):
        inventory.cluster("a").host("z")


# --- nothing but UsageError, whatever the file holds ---

_words = st.sampled_from(
    """all orders children hosts vars raftctl raft mysql failover engine durability db1 db[1:3] db[ w1 1s 100ms
    data witness raftctl_role raftctl_zone raftctl_dir raftctl_raft_port raftctl_ raftctlx ansible_host
    ansible_connection local election_timeout heartbeat_interval hooks""".split()  # noqa: SIM905
)
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | _words | st.dates()
_trees = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words | st.text() | st.integers(), inner, max_size=4),
    max_leaves=25,
)


def test_a_cluster_that_runs_may_have_an_even_number_of_voters_for_a_while() -> None:
    cluster = parse_inventory(b"o: {vars: {raftctl: }, hosts: 'db[1:4]'}").cluster()
    with pytest.raises(UsageError, match="o: has 4 voters: an even number survives the loss of 1, as 3 would"):
        require_odd_number(cluster)


# A busy machine is no fault of the inventory's.
_untimed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _attempt(data: bytes) -> None:
    try:
        inventory = parse_inventory(data)
    except UsageError:
        return
    for cluster in inventory.clusters.values():
        cluster.settings()
        assert set(cluster.members()) == {host.name for host in cluster.hosts}


@_untimed
@given(_trees)
def test_any_document_loads_or_is_a_usage_error(document: Any) -> None:
    _attempt(yaml.safe_dump(document, allow_unicode=True).encode())


@_untimed
@given(
    raftctl=_trees,
    hosts=st.dictionaries(_words | st.text(), _trees, max_size=4),
    variables=st.dictionaries(_words, _trees, max_size=4),
)
def test_any_cluster_loads_or_is_a_usage_error(raftctl: Any, hosts: Any, variables: Any) -> None:
    document = {"orders": {"vars": {**variables, "raftctl": raftctl}, "hosts": hosts}}
    _attempt(yaml.safe_dump(document, allow_unicode=True).encode())


@_untimed
@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}!&*?|>'\"#%@` \n\t0.,<=~", max_size=120).map(str.encode))
def test_any_bytes_load_or_are_a_usage_error(data: bytes) -> None:
    _attempt(data)
