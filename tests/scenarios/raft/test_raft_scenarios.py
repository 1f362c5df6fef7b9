"""Each .txt file beside this one is a claim with its proof. `REWRITE_SCENARIOS=1` writes what is printed now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.raft.interpreter import Cluster

FILES = sorted(Path(__file__).parent.glob("*.txt"))


def play(text: str) -> str:
    """The scenario with the output of every command as it is now; comments and blank lines are kept."""
    cluster = Cluster()
    result: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            result.append(line)
            result += cluster.run(line[2:])
        elif not line or line.startswith("#"):
            result.append(line)
    return "\n".join(result) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    expected = path.read_text()
    assert expected.startswith("# Claim: "), "a scenario opens with what it proves"
    actual = play(expected)
    if os.environ.get("REWRITE_SCENARIOS"):
        path.write_text(actual)
    else:
        assert actual == expected
