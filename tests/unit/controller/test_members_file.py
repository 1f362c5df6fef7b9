"""What a controller remembers of its peers across a restart."""

from __future__ import annotations

from pathlib import Path

from raftctl.controller.config import Secrets
from raftctl.controller.members_file import NAME, MembersFile, Roster
from raftctl.secret import Secret
from tests.support.planner_builders import a_member


def test_the_members_come_back(tmp_path: Path) -> None:
    file = MembersFile(tmp_path)
    assert file.load() is None
    roster = Roster(3, {"db4": a_member("db4")})
    file.save(roster)
    assert file.load() == roster


def test_rubbish_is_no_file(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"number": 1')
    assert MembersFile(tmp_path).load() is None


def test_another_host_of_a_name_has_another_password() -> None:
    secrets = Secrets(
        cluster_id="c",
        cluster_key=Secret("k" * 32),
        admin_password=Secret("a"),
        replication_passwords={"db1": Secret("kept")},
    )
    made = [secrets.replication_password("db1", uid).reveal() for uid in ("", "one", "two")]
    assert made[0] == "kept"
    assert len(set(made)) == 3
    assert all(len(password) <= 32 for password in made)  # of CHANGE REPLICATION SOURCE TO
    assert secrets.replication_password("db1", "one").reveal() == made[1]
