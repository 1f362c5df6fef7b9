"""The operator's files: made once, completed, never made anew over what is in use."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import msgspec
import pytest

from raftctl.bootstrap.credentials import exclusive, new_password, prepare, save, settled
from raftctl.bootstrap.tls import is_accepted
from raftctl.controller.config import dump_secrets, load_secrets
from raftctl.errors import RaftctlError, RefusedError, UsageError

NOW = dt.datetime.now(dt.UTC)


def complete(directory: Path, *members: str) -> list[str]:
    """Prepare and save; the names of the files that were missing."""
    _, files = prepare(directory, "orders", members, now=NOW)
    save(directory, files)
    return [file.name for file in files]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with exclusive(tmp_path / ".raftctl" / "orders"):
        return tmp_path / ".raftctl" / "orders"


def test_everything_is_made_once_and_kept_private(directory: Path) -> None:
    assert complete(directory, "db1") == ["ca.key", "ca.crt", "client.key", "client.crt", "secrets.json"]
    assert complete(directory, "db1") == []
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert {name for name, mode in modes.items() if mode & 0o077} == {"ca.crt", "client.crt"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_nobody_comes_in_the_middle_of_a_rotation(directory: Path) -> None:
    """With the earlier passwords, which end with it."""
    complete(directory, "db1")
    with settled(directory), pytest.raises(RaftctlError, match="another bootstrap uses"), settled(directory):
        pass
    present = load_secrets(directory / "secrets.json")
    (directory / "secrets-next.json").write_bytes(dump_secrets(present))
    with pytest.raises(RefusedError, match="interrupted") as refused, settled(directory):
        pass
    assert refused.value.reason == "rotation-unfinished"
    (directory / "secrets-next.json").unlink()
    both = msgspec.structs.replace(present, accepted_keys=(present.cluster_key,))
    (directory / "secrets.json").write_bytes(dump_secrets(both))
    with pytest.raises(RefusedError, match="interrupted"), settled(directory):
        pass


def test_nothing_is_written_before_save(directory: Path) -> None:
    prepare(directory, "orders", ["db1"], now=NOW)
    assert list(directory.iterdir()) == []


def test_a_new_member_gets_a_password_and_the_others_keep_theirs(directory: Path) -> None:
    complete(directory, "db1")
    before, _ = prepare(directory, "orders", ["db1"], now=NOW)
    assert complete(directory, "db1", "db2") == ["secrets.json"]
    after, _ = prepare(directory, "orders", [], now=NOW)
    assert after.secrets.replication_passwords["db1"] == before.secrets.replication_passwords["db1"]
    assert set(after.secrets.replication_passwords) == {"db1", "db2"}
    assert after.secrets.cluster_key == before.secrets.cluster_key


@pytest.mark.parametrize("interrupted_after", range(5))
def test_an_interrupted_save_is_completed(directory: Path, interrupted_after: int) -> None:
    _, files = prepare(directory, "orders", ["db1"], now=NOW)
    save(directory, files[:interrupted_after])
    complete(directory, "db1")
    assert complete(directory, "db1") == []


def test_a_client_certificate_about_to_expire_is_renewed(directory: Path) -> None:
    complete(directory, "db1")
    _, files = prepare(directory, "orders", ["db1"], now=NOW + dt.timedelta(days=9.5 * 365))
    assert [file.name for file in files] == ["client.key", "client.crt"]


@pytest.mark.parametrize("interrupted_after", range(5))
def test_an_authority_that_has_ended_is_replaced_also_after_an_interruption(
    directory: Path, interrupted_after: int
) -> None:
    complete(directory, "db1")
    before, later = load_secrets(directory / "secrets.json"), NOW + dt.timedelta(days=21 * 365)
    _, files = prepare(directory, "orders", ["db1"], now=later)
    assert [file.name for file in files] == ["ca.key", "ca.crt", "client.key", "client.crt"]
    save(directory, files[:interrupted_after])
    credentials, files = prepare(directory, "orders", ["db1"], now=later)
    save(directory, files)
    assert is_accepted((directory / "client.crt").read_bytes(), credentials.authority.certificate, now=later)
    assert prepare(directory, "orders", ["db1"], now=later)[1] == []
    assert load_secrets(directory / "secrets.json") == before


def test_a_clock_in_the_past_is_not_worked_around(directory: Path) -> None:
    complete(directory, "db1")
    with pytest.raises(UsageError, match="this machine's clock says"):
        prepare(directory, "orders", ["db1"], now=NOW - dt.timedelta(days=30))


@pytest.mark.parametrize(("lost", "message"), [("ca.key", "has ca.crt and no ca.key"), ("ca.crt", "has secrets.json")])
def test_a_lost_authority_is_not_replaced(directory: Path, lost: str, message: str) -> None:
    complete(directory, "db1")
    (directory / lost).unlink()
    with pytest.raises(UsageError, match=message):
        prepare(directory, "orders", ["db1"], now=NOW)


def test_a_second_bootstrap_is_kept_out(directory: Path) -> None:
    with exclusive(directory), pytest.raises(RaftctlError, match="another bootstrap uses"), exclusive(directory):
        pass
    with exclusive(directory):
        pass


def test_passwords_fit_mysql_and_validate_password() -> None:
    text = new_password().reveal()
    assert len(text) <= 32
    assert any(c.isupper() for c in text)
    assert any(c.islower() for c in text)
    assert any(c.isdigit() for c in text)
    assert not text.isalnum()
    assert new_password() != new_password()
