"""A controller's configuration and secrets survive their files, and faults in them are usage errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.controller import config as c
from raftctl.errors import UsageError
from raftctl.secret import Secret
from tests.support.bootstrap_builders import configuration


def secrets() -> c.Secrets:
    return c.Secrets(
        cluster_id="abc",
        cluster_key=Secret("key that is long enough"),
        admin_password=Secret("admin-pw"),
        replication_passwords={"db1": Secret("repl-pw")},
    )


@pytest.mark.parametrize("config", [configuration(), configuration(node="w1", mysql=False)])
def test_a_configuration_survives_its_file(tmp_path: Path, config: c.ControllerConfig) -> None:
    path = tmp_path / "controller.yaml"
    path.write_bytes(c.dump(config))
    assert c.load(path) == config
    assert c.load(path).member == config.peers[config.node]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"election_timeout: 2.0", b"election_timeout: soon", "raft -> election_timeout: Expected `float`, got `str`"),
        (b"kind: supervisor", b"kind: runit", "services -> kind: Invalid enum value 'runit'"),
        (b"node: db1", b"node: db9", "peers must include this node, db9"),
        (b"node: db1", b"nod: db1", "Object contains unknown field `nod`"),
        (b"cluster: orders\n", b"", "Object missing required field `cluster`"),
        (b"role: witness", b"role: judge", "peers -> role: Invalid enum value 'judge'"),
        (b"node: db1", b"node: [", "line "),
    ],
)
def test_a_fault_is_named_with_its_path(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    data = c.dump(configuration())
    assert old in data
    path = tmp_path / "controller.yaml"
    path.write_bytes(data.replace(old, new))
    with pytest.raises(UsageError) as caught:
        c.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"- 1\n", b"word", b"\xff"])
def test_a_file_that_is_no_configuration(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "controller.yaml"
    path.write_bytes(data)
    with pytest.raises(UsageError):
        c.load(path)


def test_secrets_survive_their_file_and_never_show(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_bytes(c.dump_secrets(secrets()))
    path.chmod(0o600)
    assert c.load_secrets(path) == secrets()
    assert "pw" not in repr(secrets())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_secrets_that_others_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets.json"
    path.write_bytes(c.dump_secrets(secrets()))
    path.chmod(mode)
    with pytest.raises(UsageError, match=f"has mode {mode:04o}, so others can read the secrets") as caught:
        c.load_secrets(path)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"cluster_id": 1}', b'{"admin_password": "hunter2", "x": "hunter2"}', b"\xff"]
)
def test_malformed_secrets_are_not_quoted(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "secrets.json"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(UsageError) as caught:
        c.load_secrets(path)
    assert "hunter2" not in str(caught.value)


def test_a_secret_of_a_wrong_type_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_bytes(c.dump_secrets(secrets()).replace(b'"admin-pw"', b"17"))
    path.chmod(0o600)
    with pytest.raises(UsageError, match="admin_password: a secret must be a text"):
        c.load_secrets(path)
    with pytest.raises(UsageError, match="No such file"):
        c.load_secrets(tmp_path / "none")
