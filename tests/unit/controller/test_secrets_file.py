"""Controller and guard take new secrets as soon as the file has them whole, keep theirs until then, and say so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from raftctl.controller.config import Secrets, dump_secrets, load_secrets
from raftctl.controller.guard_link import GuardLink
from raftctl.controller.guard_password import Password
from raftctl.controller.guard_protocol import GuardFiles, Renewal, encode_answers
from raftctl.controller.secrets_file import SecretsFile
from raftctl.hosts.local_services import local_services
from raftctl.secret import Secret, fingerprint
from tests.support.waiting import wait_until

FIRST = Secrets(
    cluster_id="c",
    cluster_key=Secret("0123456789abcdef"),
    admin_password=Secret("first"),
    replication_passwords={"db1": Secret("one")},
)
SECOND = msgspec.structs.replace(FIRST, admin_password=Secret("second"), accepted_keys=(Secret("fedcba9876543210"),))
SHORT_KEY = msgspec.structs.replace(SECOND, accepted_keys=(Secret("short"),))


def write(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    draft = path.with_suffix(".draft")
    draft.write_bytes(data)
    draft.chmod(mode)
    return draft.replace(path)


def print_of(secrets: Secrets) -> str:
    return fingerprint(dump_secrets(secrets))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (nobody is told)
            await asyncio.sleep(0.01)


class Taking:
    """What a controller was told to use, and when it said that it does."""

    def __init__(self, file: SecretsFile) -> None:
        self.file = file
        self.taken: asyncio.Queue[tuple[Secrets, Secrets]] = asyncio.Queue()
        self.done = asyncio.Event()

    async def changed(self, before: Secrets, after: Secrets) -> None:
        self.taken.put_nowait((before, after))
        await self.done.wait()


@pytest.mark.parametrize(
    ("data", "mode", "complaint"),
    [
        (b"{", 0o600, "truncated"),
        (dump_secrets(SHORT_KEY), 0o600, "at least 16 bytes"),
        (dump_secrets(SECOND), 0o644, "others can read"),
        (None, 0o600, "No such file"),
    ],
)
async def test_new_secrets_are_taken_when_the_file_is_whole_private_and_sound(
    data: bytes | None, mode: int, complaint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "secrets.json", dump_secrets(FIRST))
    taking = Taking(file := SecretsFile(str(path), load_secrets(path)))
    watching = asyncio.create_task(file.watch(taking.changed))
    try:
        write(path, data, mode=mode) if data is not None else path.unlink()
        await until(lambda: complaint in caplog.text)
        assert file.secrets == FIRST
        write(path, dump_secrets(SECOND))
        async with asyncio.timeout(30):
            assert await taking.taken.get() == (FIRST, SECOND)
        assert (file.secrets, file.in_use) == (SECOND, print_of(FIRST)), "connections of before are still there"
        taking.done.set()
        await until(lambda: file.in_use == print_of(SECOND))
    finally:
        watching.cancel()
    assert taking.taken.empty()


async def test_what_was_written_between_the_start_and_the_first_look_is_not_missed(tmp_path: Path) -> None:
    path = write(tmp_path / "secrets.json", dump_secrets(SECOND))
    taking = Taking(file := SecretsFile(str(path), FIRST))
    watching = asyncio.create_task(file.watch(taking.changed))
    async with asyncio.timeout(30):
        assert await taking.taken.get() == (FIRST, SECOND)
    watching.cancel()


def test_a_fingerprint_tells_secrets_apart_and_nothing_of_them() -> None:
    assert print_of(FIRST) == print_of(msgspec.structs.replace(FIRST)) != print_of(SECOND)
    assert "first" not in print_of(FIRST)


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: path.write_bytes(b"\xff{"),
        lambda path: path.write_text("{}"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"admin_password": 1}'),
    ],
)
def test_the_guard_keeps_its_password_until_it_can_read_another(
    spoil: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "secrets.json", dump_secrets(FIRST))
    password = Password(path)
    assert password.secrets == print_of(FIRST)
    password.watch()
    spoil(path)
    wait_until(lambda: "is kept" in caplog.text, what="it has seen that")
    assert password.current() == Secret("first")
    write(path, dump_secrets(SECOND))
    wait_until(lambda: password.current() == Secret("second"), what="the other password to be taken")
    assert password.secrets == print_of(SECOND)


@pytest.mark.parametrize("content", [None, b"", b'{"admin_password": "fir'])
def test_the_guard_begins_without_a_password_until_it_can_read_one(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secrets.json"
    if content is not None:
        path.write_bytes(content)
    password = Password(path)
    assert (password.current(), password.secrets) == (Secret(""), "")
    assert "cannot log in to mysqld yet" in caplog.text
    password.watch()
    write(path, dump_secrets(FIRST))
    wait_until(lambda: password.current() == Secret("first"), what="the password to be taken")


# --- how the controller knows what its guard uses -------------------------------------------------------


class FakeGuard:
    """Answers as process `pid` when it is told to."""

    def __init__(self, files: GuardFiles) -> None:
        self.pid, self._to = 7, str(files.controller_socket)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def say(self, *answers: bytes) -> None:
        for answer in answers:
            self._socket.sendto(answer, self._to)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def link(tmp_path: Path) -> GuardLink:
    return GuardLink(
        files=GuardFiles(tmp_path),
        services=local_services(socket_path=str(tmp_path / "nobody.sock"), mysqld_unit=""),
        renewal=lambda: Renewal(pid=1, sent=0.0, seconds=1.0, ttl=1.0, writable=True),
        record=lambda kind, why, detail: None,
        clock=lambda: 0.0,  # which stands still: nobody is silent
    )


@pytest.fixture
def guard(tmp_path: Path, link: GuardLink) -> Iterator[FakeGuard]:
    guard = FakeGuard(GuardFiles(tmp_path))
    yield guard
    guard.close()


async def test_the_controller_knows_what_its_guard_uses_and_not_what_a_dead_one_used(
    link: GuardLink, guard: FakeGuard
) -> None:
    running = asyncio.create_task(link.run())
    try:
        guard.say(*encode_answers(7, "first"))
        await until(lambda: link.secrets == "first")
        guard.say(*encode_answers(7, "second"))
        await until(lambda: link.secrets == "second")
        guard.say(encode_answers(8, "")[0])  # as guards of an earlier version answer
        await until(lambda: link.secrets == "")
    finally:
        running.cancel()


def test_earlier_controllers_understand_the_first_answer_and_skip_the_second() -> None:
    first, second = encode_answers(7, "print")
    assert int(first) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        int(second)
