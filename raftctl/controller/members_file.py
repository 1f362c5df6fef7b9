"""Who the members were when this controller last knew: to reach them after a restart, before any leader has said so.

The configuration file has those of the time of bootstrap. When all hosts lose power after enough of them were replaced,
those would not find each other.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

from raftctl.cluster.codec import from_json, to_json
from raftctl.cluster.state import Member
from raftctl.durable_file import write_durably

logger = logging.getLogger(__name__)

NAME: Final = "members.json"
BEFORE_ALL: Final = -1  # the number of a roster that every other one replaces


class Roster(msgspec.Struct, frozen=True):
    """`number` is ClusterState.roster: which of two is newer. Numbers of different incarnations cannot be compared."""

    number: int
    members: dict[str, Member]
    incarnation: int = 1


class MembersFile:
    """In the controller's own directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def load_for(self, incarnation: int) -> Roster | None:
        """As `load`. Who was a member in an earlier incarnation can be asked who is one now; any word on that counts
        more, whatever its number: members may have come and gone in decisions that the survivors never had."""
        roster = self.load()
        if roster is None or roster.incarnation == incarnation:
            return roster
        return msgspec.structs.replace(roster, number=BEFORE_ALL)

    def load(self) -> Roster | None:
        """None when there is none, or none that can be read: the log will say."""
        try:
            roster: Roster = from_json(self._path.read_bytes(), Roster)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s cannot be read: %s", self._path, error)
            return None
        return roster

    def save(self, roster: Roster) -> None:
        """Durable when it returns. What cannot be written is only said: it is needed in a rare case, and the old file
        stays."""
        try:
            write_durably(self._path, to_json(roster))
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error)
