"""`raftctl rotate`: who cannot take part is named before anything is changed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.fake_controllers import FakeCluster, with_addresses
from tests.support.member_facts import cluster_state, healthy


def files(orders: FakeCluster) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (orders.directory / ".raftctl" / "orders").iterdir()}


@pytest.fixture
def ready(orders: FakeCluster) -> FakeCluster:
    """Healthy, and all use secrets that they have a fingerprint of. Their hosts have no directory to write into."""
    for name in healthy():
        orders.add(name, {})
    state = with_addresses(cluster_state(), orders)
    members = {
        name: msgspec.structs.replace(member, raft=f"127.0.0.1:{n}", mysql=f"127.0.0.1:{100 + n}")
        for n, (name, member) in enumerate(state.members.items(), start=1)
    }
    for name, answer in healthy(state=msgspec.structs.replace(state, members=members)).items():
        known = msgspec.structs.replace(answer, secrets="print", guard_secrets="print")
        orders.controllers[name].replies["GET /v1/member"] = (200, known)
    return orders


@pytest.mark.parametrize("field", ["secrets", "guard_secrets"])
def test_passwords_are_not_begun_with_a_member_that_could_not_say_that_it_uses_them(ready, raftctl, field):
    _, answer = ready.controllers["db2"].replies["GET /v1/member"]
    ready.controllers["db2"].replies["GET /v1/member"] = (200, msgspec.structs.replace(answer, **{field: ""}))
    before = files(ready)
    done = raftctl("--timeout", "1", "rotate", "passwords", "--yes")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: db2: the controller, or its guard, does not say which secrets it uses (earlier-version)",
        "hint: when its raftctl is older than this one, `raftctl bootstrap` brings it up to date",
    ]
    assert files(ready) == before


@pytest.mark.parametrize("what", ["passwords", "certificates"])
def test_nothing_is_begun_without_a_member(ready, raftctl, what):
    ready.controllers["db2"].close()
    before = files(ready)
    done = raftctl("rotate", what, "--yes")
    error, hint = done.stderr.splitlines()
    assert done.returncode == 1
    assert error.startswith("error: db2 does not answer: ")
    assert error.endswith("(not-reporting)")
    assert hint == (
        "hint: start it, or take it out with `raftctl member remove db2` and out of the inventory: it would be left"
        " behind; `raftctl member add` takes it in again"
    )
    assert files(ready) == before
