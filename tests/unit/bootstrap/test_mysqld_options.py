"""The option file of a member: written again from what the server then says, it is the same."""

from __future__ import annotations

from raftctl.bootstrap.mysqld_options import option_file, server_id
from raftctl.inventory.load import parse_inventory

HOST = parse_inventory(b"orders: {vars: {raftctl: }, hosts: {db1: {ansible_host: 192.0.2.1}}}").cluster().host("db1")


def options(**variables: str) -> dict[str, str]:
    """The settings in the file for a server that says `variables` of itself."""
    lines = option_file(HOST, "abc", version="8.4.3", variables=variables).decode().splitlines()
    return dict(line.split(" = ", 1) for line in lines if " = " in line)


def test_a_member_is_known_by_its_own_address_and_id() -> None:
    found = options()
    assert (found["report_host"], found["report_port"], found["port"]) == ("192.0.2.1", "3306", "3306")
    assert found["server_id"] == str(server_id("abc", "db1"))
    assert (found["super_read_only"], found["skip_replica_start"]) == ("ON", "ON")


def test_server_ids_differ_between_members_and_between_clusters() -> None:
    ids = {server_id(cluster, f"db{n}") for cluster in ("abc", "abd") for n in range(1, 10)}
    assert len(ids) == 18
    assert all(0 < number < 2**32 for number in ids)


def test_the_names_of_log_files_are_kept() -> None:
    """Under another name the server would not find them again, nor the transactions in them."""
    found = options(log_bin_basename="/var/log/mysql/mysql-bin", relay_log_basename="/var/lib/mysql/db1-relay-bin")
    assert found["log_bin"] == "/var/log/mysql/mysql-bin"
    assert found["relay_log"] == "/var/lib/mysql/db1-relay-bin"


def test_it_listens_for_the_others() -> None:
    assert options(bind_address="127.0.0.1")["bind_address"] == "*"
    assert options(bind_address="*")["bind_address"] == "*"
    assert options(bind_address="192.0.2.1")["bind_address"] == "192.0.2.1"


def test_it_is_stable() -> None:
    first = option_file(HOST, "abc", version="8.4.3", variables={"bind_address": "127.0.0.1"})
    said = dict(line.split(" = ", 1) for line in first.decode().splitlines() if " = " in line)
    now = {"log_bin_basename": said["log_bin"], "relay_log_basename": said["relay_log"]}
    assert option_file(HOST, "abc", version="8.4.3", variables=said | now) == first
