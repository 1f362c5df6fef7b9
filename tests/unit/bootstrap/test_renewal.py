"""Which hosts get a new certificate before anybody can be asked anything."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from raftctl.bootstrap import renewal
from raftctl.bootstrap.survey import HostSurvey
from raftctl.bootstrap.tls import KeyPair, bundle, create_authority, issue_node, uid_in
from raftctl.errors import RefusedError
from raftctl.inventory.model import ClusterInventory
from tests.support.bootstrap_builders import configuration

NOW = dt.datetime.now(dt.UTC)
YEARS = dt.timedelta(days=365)


def inventory(tmp_path: Path) -> ClusterInventory:
    from raftctl.inventory.load import load_inventory

    path = tmp_path / "inventory.yaml"
    path.write_text(
        "orders:\n  vars: {raftctl: {}}\n  hosts:\n"
        + "".join(f"    db{number}: {{ansible_host: 192.0.2.{number}}}\n" for number in (1, 2, 3))
    )
    return load_inventory(path).cluster("orders")


def certificate(authority: KeyPair, *, age: dt.timedelta = dt.timedelta(), uid: str = "") -> bytes:
    return issue_node(authority, "db1", "192.0.2.1", now=NOW - age, uid=uid).certificate


def ended(
    tmp_path: Path, *, authority: bytes, trusted: bytes, own: bytes, node: str = "db1", cluster_id: str = "abc"
) -> list[str]:
    """The hosts to be renewed when db1 alone is configured, with these certificates."""
    surveys = {name: HostSurvey(name=name) for name in ("db2", "db3")}
    surveys["db1"] = HostSurvey(name="db1", config=configuration(node=node), certificate=own, authorities=trusted)
    found = renewal.ended(inventory(tmp_path), surveys, authority, cluster_id, now=NOW)
    return [host.name for host in found]


def test_only_what_nobody_accepts_any_more_is_renewed(tmp_path: Path) -> None:
    authority = create_authority("orders", now=NOW - 11 * YEARS)
    ours = {"authority": authority.certificate, "trusted": authority.certificate}
    assert ended(tmp_path, **ours, own=certificate(authority)) == []
    assert ended(tmp_path, **ours, own=certificate(authority, age=9.5 * YEARS)) == []
    assert ended(tmp_path, **ours, own=certificate(authority, age=10.5 * YEARS)) == ["db1"]
    assert ended(tmp_path, **ours, own=certificate(authority, age=-YEARS)) == ["db1"]  # not valid yet
    assert ended(tmp_path, **ours, own=b"rubbish") == ["db1"]


def test_an_authority_that_has_ended_gives_way(tmp_path: Path) -> None:
    old, new = create_authority("orders", now=NOW - 21 * YEARS), create_authority("orders", now=NOW)
    both = bundle(new.certificate, old.certificate)
    own = certificate(old)
    assert ended(tmp_path, authority=new.certificate, trusted=old.certificate, own=own) == ["db1"]
    assert ended(tmp_path, authority=new.certificate, trusted=new.certificate, own=own) == ["db1"]  # interrupted
    assert ended(tmp_path, authority=both, trusted=both, own=certificate(new)) == []


def test_a_rotation_under_way_is_left_to_itself(tmp_path: Path) -> None:
    old, new = create_authority("orders", now=NOW), create_authority("orders", now=NOW)
    both, own = bundle(new.certificate, old.certificate), certificate(old)
    assert ended(tmp_path, authority=old.certificate, trusted=both, own=own) == []
    assert ended(tmp_path, authority=both, trusted=both, own=own) == []
    assert ended(tmp_path, authority=both, trusted=new.certificate, own=certificate(new)) == []


def test_an_authority_that_was_replaced_from_elsewhere_is_not_undone(tmp_path: Path) -> None:
    old, new = create_authority("orders", now=NOW), create_authority("orders", now=NOW)
    with pytest.raises(RefusedError, match="another certificate authority") as caught:
        ended(tmp_path, authority=old.certificate, trusted=new.certificate, own=certificate(new))
    assert caught.value.reason == "other-authority"


def test_other_clusters_and_other_hosts_are_not_touched(tmp_path: Path) -> None:
    authority = create_authority("orders", now=NOW).certificate
    assert ended(tmp_path, authority=authority, trusted=authority, own=b"", cluster_id="other") == []
    assert ended(tmp_path, authority=authority, trusted=authority, own=b"", node="w1") == []


def test_the_uid_is_read_from_the_certificate() -> None:
    authority = create_authority("orders", now=NOW)
    assert uid_in(certificate(authority, uid="u7")) == "u7"
    assert uid_in(certificate(authority)) == ""
    assert uid_in(b"rubbish") is None
