"""docs/failures.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
MATRIX = TESTS.parent / "docs" / "failures.md"
QUOTED = re.compile(r"`([^`]*\btest_[^`]*)`")
NAME = re.compile(r"\btest_\w+\*?(?:\.py)?")


def test_every_test_that_the_matrix_names_is_there() -> None:
    files = list(TESTS.rglob("test_*.py"))
    functions = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    known = functions | {file.name for file in files}
    named = {name for quoted in QUOTED.findall(MATRIX.read_text()) for name in NAME.findall(quoted)}
    missing = [n for n in named if not any(k.startswith(n[:-1]) if n.endswith("*") else k == n for k in known)]
    assert len(named) > 40
    assert missing == []
