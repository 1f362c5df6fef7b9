"""While the controller reads its log, the API says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.api_server import api


@pytest.mark.parametrize("path", ["/primary", "/replica", "/health", "/metrics"])
async def test_nothing_is_answered_before_the_log_is_read(tmp_path: Path, path: str) -> None:
    async with api(tmp_path, started=False) as ask, ask("GET", path) as response:
        assert response.status == 503
        assert (await response.json())["reason"] == "starting"
