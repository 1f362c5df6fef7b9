"""A controller takes new certificates as soon as their files fit together, and not before."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

from raftctl.bootstrap.tls import KeyPair, create_authority, issue_node, serials
from raftctl.controller.certificates import Certificates, Contexts
from raftctl.controller.config import ApiConfig

NOW = dt.datetime.now(dt.UTC)


def write(directory: Path, *, authority: KeyPair, pair: KeyPair) -> ApiConfig:
    for name, data in {"ca": authority.certificate, "crt": pair.certificate, "key": pair.key}.items():
        (directory / name).write_bytes(data)
    return ApiConfig(listen="", ca=str(directory / "ca"), cert=str(directory / "crt"), key=str(directory / "key"))


async def test_new_files_are_taken_when_they_fit(tmp_path: Path) -> None:
    authority = create_authority("orders", now=NOW)
    first, second = (issue_node(authority, "db1", "192.0.2.1", now=NOW) for _ in range(2))
    certificates = Certificates("db1", write(tmp_path, authority=authority, pair=first))
    assert certificates.facts
    assert certificates.facts.serial == serials(first.certificate)[0]
    assert certificates.facts.authorities == tuple(serials(authority.certificate))
    assert 3640 < certificates.facts.days_left < 3651
    assert 7290 < (certificates.facts.authority_days_left or 0) < 7306
    taken: asyncio.Queue[Contexts] = asyncio.Queue()
    watching = asyncio.create_task(certificates.watch(taken.put))
    (tmp_path / "key").write_bytes(second.key)  # does not fit the certificate that is still there
    (tmp_path / "crt").write_bytes(second.certificate)
    async with asyncio.timeout(30):
        await taken.get()
    watching.cancel()
    assert taken.empty()


def test_an_expired_certificate_does_not_keep_the_controller_from_starting(tmp_path: Path) -> None:
    authority = create_authority("orders", now=NOW)
    expired = issue_node(authority, "db1", "192.0.2.1", now=NOW - dt.timedelta(days=4000))
    assert Certificates("db1", write(tmp_path, authority=authority, pair=expired)).facts is None
