"""Ansible's SSH variables of a host: the same inventory must lead raftctl and playbooks the same way."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from raftctl.inventory.fields import Fields
from raftctl.inventory.model import SSHAccess

_ARGUMENTS = ("ssh_common_args", "ssh_extra_args")
_OPTIONS_OF_FLAGS = {"-J": "proxyjump", "-F": "configfile"}


def ssh_access(ansible: Fields, host: str) -> SSHAccess:
    """How the host is reached. Of the arguments for ssh, a jump host (`-J`, `ProxyJump`), `UserKnownHostsFile` and `-F`
    count; others, such as connection sharing, mean nothing here. Raises UsageError."""
    options: dict[str, str] = {}
    for variable in _ARGUMENTS:
        for name, value in _options(ansible, variable):
            options.setdefault(name, value)
    return SSHAccess(
        host=host,
        port=ansible.port("port", 22),
        user=ansible.text("user", ""),
        key_file=ansible.text("ssh_private_key_file", ""),
        jump=options.get("proxyjump", ""),
        known_hosts=options.get("userknownhostsfile", ""),
        config_file=options.get("configfile", ""),
        become=ansible.boolean("become", True),
    )


def _options(ansible: Fields, variable: str) -> Iterator[tuple[str, str]]:
    """Lower-case option names with their values."""
    try:
        words = iter(shlex.split(ansible.text(variable, "")))
    except ValueError as error:
        ansible.fault(variable, f"is not a list of arguments: {error}")
    for word in words:
        flag, rest = word[:2], word[2:]
        if flag in _OPTIONS_OF_FLAGS:
            yield _OPTIONS_OF_FLAGS[flag], rest or next(words, "")
        elif flag == "-o":
            name, _, value = (rest or next(words, "")).replace("=", " ", 1).partition(" ")
            yield name.lower(), value.strip()
