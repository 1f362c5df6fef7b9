"""Asking a member's mysqld itself when its controller does not answer (`--via direct`)."""

from __future__ import annotations

from collections.abc import Callable

from raftctl.api_client import split_address
from raftctl.cluster.facts import MySQLFacts, MySQLState
from raftctl.cluster.observation import MySQLObservation
from raftctl.cluster.state import Member
from raftctl.controller.config import load_secrets
from raftctl.errors import MySQLError
from raftctl.inventory.model import ClusterInventory
from raftctl.mysql.accounts import ADMIN_USER
from raftctl.mysql.client import Endpoint, connect
from raftctl.mysql.observe import observe


def ask_mysql(inventory: ClusterInventory, timeout: float) -> Callable[[Member], MySQLFacts | str]:
    """A function that looks at one member's mysqld; one line of text when that fails. Raises UsageError."""
    password = load_secrets(inventory.credentials / "secrets.json").admin_password

    def ask(member: Member) -> MySQLFacts | str:
        host, port = split_address(member.mysql or "")
        endpoint = Endpoint(host=host, port=port, user=ADMIN_USER, password=password)
        try:
            with connect(endpoint, connect_timeout=timeout, timeout=timeout) as connection:
                seen = observe(connection)
        except MySQLError as error:
            return str(error)
        return MySQLFacts(state=outside_state(seen), observation=seen)

    return ask


def outside_state(seen: MySQLObservation) -> MySQLState:
    """What a mysqld looks like without its controller's word: nobody says which epoch it serves."""
    if seen.offline_mode:
        return MySQLState.FENCED
    if seen.writable:
        return MySQLState.PRIMARY
    return MySQLState.REPLICA if seen.channel is not None else MySQLState.UNKNOWN
