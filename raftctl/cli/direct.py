"""Asking a member's mysqld itself when its controller does not answer (`--via direct`, `--via ssh`)."""

from __future__ import annotations

from collections.abc import Callable

from raftctl.api_client import split_address
from raftctl.cluster.facts import MySQLFacts, MySQLState
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import Member
from raftctl.controller.config import load_secrets
from raftctl.errors import HostError, MySQLError, UsageError
from raftctl.hosts.reach import mysql_dialer
from raftctl.inventory.model import ClusterInventory
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.client import Endpoint, connect
from raftctl.mysql.observe import observe
from raftctl.secret import Secret


def ask_mysql(
    inventory: ClusterInventory, timeout: float, *, tunnels: bool = False
) -> Callable[[Member], MySQLFacts | str]:
    """A function that looks at one member's mysqld; one line of text when that fails. `tunnels`: at the socket on its
    host, through SSH where that is not this machine. Raises UsageError."""
    password = load_secrets(inventory.credentials / "secrets.json").admin_password

    def ask(member: Member) -> MySQLFacts | str:
        try:
            endpoint = _there(inventory, member, password) if tunnels else _from_here(member, password)
            with connect(endpoint, connect_timeout=timeout, timeout=timeout) as connection:
                seen = observe(connection)
        except (MySQLError, HostError, UsageError) as error:
            return str(error)
        return MySQLFacts(state=outside_state(seen), observation=seen)

    return ask


def _from_here(member: Member, password: Secret) -> Endpoint:
    host, port = split_address(member.mysql or "")
    return Endpoint(host=host, port=port, user=ADMIN_USER, password=password)


def _there(inventory: ClusterInventory, member: Member, password: Secret) -> Endpoint:
    host = inventory.host(member.name)
    return Endpoint(unix_socket=host.mysql_socket, dial=mysql_dialer(host), user=ADMIN_USER, password=password)


def outside_state(seen: MySQLObservation) -> MySQLState:
    """What a mysqld looks like without its controller's word: nobody says which epoch it serves."""
    if seen.offline_mode:
        return MySQLState.FENCED
    if seen.writable:
        return MySQLState.PRIMARY
    return MySQLState.REPLICA if seen.channel is not None else MySQLState.UNKNOWN
