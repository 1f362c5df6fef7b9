"""Ansible's variables for SSH mean to raftctl what they mean to Ansible."""

from __future__ import annotations

import pytest

from raftctl.errors import UsageError
from raftctl.inventory.load import parse_inventory
from raftctl.inventory.model import SSHAccess


def access(variables: str) -> SSHAccess:
    text = f"orders: {{vars: {{raftctl: }}, hosts: {{db1: {{ansible_host: 192.0.2.1, {variables}}}}}}}"
    return parse_inventory(text.encode()).cluster().host("db1").ssh


def test_nothing_said_is_left_to_the_ssh_configuration() -> None:
    assert access("") == SSHAccess(host="192.0.2.1")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-o ProxyJump=bastion", {"jump": "bastion"}),
        ("-oProxyJump=a,b", {"jump": "a,b"}),
        ("-J dba@bastion:2222", {"jump": "dba@bastion:2222"}),
        ("-Jbastion", {"jump": "bastion"}),
        ("-F /c -o UserKnownHostsFile=/k", {"config_file": "/c", "known_hosts": "/k"}),
        ("-o 'userknownhostsfile /a /b'", {"known_hosts": "/a /b"}),
        ("-o ProxyJump=first -o ProxyJump=second", {"jump": "first"}),
        ("-C -o ControlMaster=auto -o ControlPersist=60s", {}),
        ("-o StrictHostKeyChecking=no", {}),  # a host key is verified all the same
    ],
)
def test_arguments_for_ssh(arguments: str, expected: dict[str, str]) -> None:
    assert access(f'ansible_ssh_common_args: "{arguments}"') == SSHAccess(host="192.0.2.1", **expected)


def test_common_arguments_come_before_extra_ones() -> None:
    found = access('ansible_ssh_common_args: "-J a", ansible_ssh_extra_args: "-J b -F /c"')
    assert (found.jump, found.config_file) == ("a", "/c")


def test_become() -> None:
    assert access("ansible_become: false").become is False
    assert access("ansible_become: true").become is True


def test_arguments_that_are_none() -> None:
    with pytest.raises(UsageError, match="orders -> db1 -> ansible_ssh_common_args: is not a list of arguments"):
        access("""ansible_ssh_common_args: "-o 'x" """)
