"""This machine as a host: `ansible_connection: local`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from raftctl.durable_file import sync_directory
from raftctl.errors import HostError
from raftctl.hosts.base import CommandResult


class LocalHost:
    """Everything happens as the user that runs raftctl. See raftctl.hosts.base.Host for the meaning of the methods."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, argv: Sequence[str], *, data: bytes = b"", timeout: float, check: bool = True) -> CommandResult:
        program = argv[0]
        with self._translated(f"cannot run {program}"):
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        try:
            stdout, stderr = process.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise HostError(f"{self.name}: {program} had not ended after {timeout:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its children too
                process.wait()
        if check and process.returncode != 0:
            last = stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise HostError(f"{self.name}: {program} failed with status {process.returncode}: {''.join(last)}")
        return CommandResult(process.returncode, stdout, stderr)

    def read_file(self, path: str) -> bytes | None:
        with self._translated(f"cannot read {path}"):
            try:
                return Path(path).read_bytes()
            except FileNotFoundError:
                return None

    def write_file(self, path: str, data: bytes, *, mode: int) -> None:
        target = Path(path)
        with self._translated(f"cannot write {path}"):
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    os.fchmod(descriptor, mode)
                    file.flush()
                    os.fsync(descriptor)
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            sync_directory(target.parent)

    def make_dir(self, path: str, *, mode: int) -> None:
        with self._translated(f"cannot create {path}"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).mkdir(mode=mode, exist_ok=True)

    def dial_tcp(self, host: str, port: int, *, timeout: float) -> socket.socket:
        with self._translated(f"cannot connect to {host}:{port}"):
            return socket.create_connection((host, port), timeout)

    def dial_unix(self, path: str, *, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        with self._translated(f"cannot connect to {path}"):
            try:
                connection.settimeout(timeout)
                connection.connect(path)
            except BaseException:
                connection.close()
                raise
        return connection

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HostError(f"{self.name}: {what}: {error.strerror or error}") from None
