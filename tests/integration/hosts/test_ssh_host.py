"""SSHHost against a real sshd: commands, files, sockets, and whom it trusts."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raftctl.errors import HostError
from raftctl.hosts.ssh import SSHHost
from raftctl.hosts.ssh_connection import Connections
from raftctl.inventory.model import SSHAccess
from tests.support.sshd import RunningSSHD, make_key, sshd
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSSHD]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def connections() -> Iterator[Connections]:
    opened = Connections()
    yield opened
    opened.close()


def ssh_host(access: SSHAccess, connections: Connections) -> SSHHost:
    return SSHHost("db1", access, connections)


@pytest.fixture
def host(server: RunningSSHD, connections: Connections) -> SSHHost:
    return ssh_host(server.access(become=False), connections)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- commands ------------------------------------------------------------------------------------------


def test_run_passes_data_and_returns_what_the_program_wrote(host: SSHHost) -> None:
    result = host.run(["sh", "-c", "cat; echo oops >&2; exit 3"], data=b"secret", timeout=30, check=False)
    assert (result.status, result.stdout, result.stderr) == (3, b"secret", b"oops\n")


def test_arguments_arrive_as_they_are(host: SSHHost) -> None:
    words = ["a b", "$HOME", "'", '"', "*", "", "back\\slash", "new\nline"]
    assert host.run(["printf", "%s\\0", *words], timeout=30).stdout == "".join(f"{w}\0" for w in words).encode()


def test_much_data_both_ways_at_once(host: SSHHost) -> None:
    data = os.urandom(6 << 20)
    assert host.run(["cat"], data=data, timeout=60).stdout == data


def test_a_failed_program_is_one_line_with_the_host(host: SSHHost) -> None:
    with pytest.raises(HostError, match=r"^db1: sh failed with status 3: two$"):
        host.run(["sh", "-c", "echo one >&2; echo two >&2; exit 3"], data=b"secret", timeout=30)


def test_a_program_that_does_not_end_is_killed_there_with_its_children(host: SSHHost, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    with pytest.raises(HostError, match=r"^db1: (sh had not ended after 1 s|no answer from sh in time)$"):
        host.run(["sh", "-c", script], timeout=1)
    if pid_file.exists():  # else the machine was too busy to get that far
        pid = int(pid_file.read_text())
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid), what="the child is gone")


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_many_commands_at_once_share_one_connection(host: SSHHost, connections: Connections) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: host.run(["echo", str(n)], timeout=60).stdout, range(20)))
    assert results == [f"{n}\n".encode() for n in range(20)]
    assert len(connections.opened()) == 1


def test_a_connection_that_died_is_replaced(host: SSHHost, connections: Connections) -> None:
    host.run(["true"], timeout=30)
    (connection,) = connections.opened()
    connection.transport.close()
    assert host.run(["echo", "again"], timeout=30).stdout == b"again\n"


# --- files ---------------------------------------------------------------------------------------------


def test_write_file_sets_the_mode_and_replaces(host: SSHHost, tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("old")
    path.chmod(0o666)
    host.write_file(str(path), b"new\0\xff", mode=0o600)
    assert (path.read_bytes(), mode_of(path)) == (b"new\0\xff", 0o600)
    host.write_file(str(path), b"", mode=0o644)
    assert (host.read_file(str(path)), mode_of(path)) == (b"", 0o644)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secrets.json"]


def test_a_failed_write_leaves_the_old_file_and_no_other(host: SSHHost, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(HostError, match=f"^db1: cannot write {tmp_path}/target: "):
        host.write_file(str(tmp_path / "target"), b"x", mode=0o600)
    with pytest.raises(HostError, match="No such file or directory"):
        host.write_file(str(tmp_path / "none" / "x"), b"x", mode=0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_read_file_tells_a_missing_file_from_an_unreadable_one(host: SSHHost, tmp_path: Path) -> None:
    assert host.read_file(str(tmp_path / "none")) is None
    with pytest.raises(HostError, match="Is a directory"):
        host.read_file(str(tmp_path))


def test_make_dir(host: SSHHost, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    host.make_dir(str(path), mode=0o700)
    host.make_dir(str(path), mode=0o755)
    assert (mode_of(path), mode_of(path.parent)) == (0o700, 0o755)
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"^db1: cannot create"):
        host.make_dir(str(tmp_path / "file"), mode=0o700)


# --- sockets -------------------------------------------------------------------------------------------


def echo_server(listener: socket.socket) -> None:
    """Serves one client: sends back what it gets until the end."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()


def talk(connection: socket.socket) -> bytes:
    data = os.urandom(1 << 20)
    threading.Thread(
        target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)), daemon=True
    ).start()
    connection.settimeout(60)
    received = b""
    while chunk := connection.recv(1 << 16):
        received += chunk
    assert received == data
    return received


def test_dial_tcp_reaches_what_the_host_reaches(host: SSHHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        echo_server(listener)
        with host.dial_tcp("127.0.0.1", listener.getsockname()[1], timeout=30) as connection:
            talk(connection)


def test_dial_tcp_to_a_closed_port(host: SSHHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HostError, match=rf"^db1: 127\.0\.0\.1:{port} is not reached from there: "):
        host.dial_tcp("127.0.0.1", port, timeout=30)


def test_dial_unix(host: SSHHost, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        received = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(100))
                connection.sendall(b"hello back")

        threading.Thread(target=serve, daemon=True).start()
        with host.dial_unix(str(tmp_path / "s"), timeout=30) as connection:
            connection.settimeout(30)
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello back"
        assert received == [b"hello"]


def test_dial_unix_where_nobody_listens(host: SSHHost, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"^db1: cannot reach .*/none: No such file or directory$"):
        host.dial_unix(str(tmp_path / "none"), timeout=30)


# --- trust ---------------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_not_added(
    server: RunningSSHD, connections: Connections, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    host = ssh_host(server.access(known_hosts=str(known)), connections)
    listed = subprocess.run(["ssh-keygen", "-lf", str(server.host_key)], check=True, capture_output=True, text=True)
    with pytest.raises(HostError, match="its host key is not known") as caught:
        host.run(["true"], timeout=30)
    assert listed.stdout.split()[1] in str(caught.value)
    assert "ssh-keygen -lf" in caught.value.hint
    assert known.read_bytes() == b""


def test_known_hosts_as_large_companies_have_it(server: RunningSSHD, connections: Connections, tmp_path: Path) -> None:
    """Authorities, revoked keys, comments and lines that nobody understands stand beside the host's own."""
    known = tmp_path / "known_hosts"
    lines = [
        f"@cert-authority *.example.com {make_key(tmp_path / 'authority')}",
        f"@revoked * {make_key(tmp_path / 'revoked')}",
        "# a comment here",
        "host ssh-rsa AAAAB3NzaC1yc2E=x",
        "host ssh-rsa",
        server.known_hosts.read_text().replace(" ", "\t", 1),
    ]
    known.write_bytes(b"\xff\xfe\n" + "\n".join(lines).encode())
    host = ssh_host(server.access(known_hosts=str(known)), connections)
    assert host.run(["true"], timeout=10).status == 0


def test_a_revoked_host_key_is_refused(server: RunningSSHD, connections: Connections, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    public = server.known_hosts.read_text().split(maxsplit=1)[1]
    known.write_text(f"{server.known_hosts.read_text()}@revoked * {public}")
    host = ssh_host(server.access(known_hosts=str(known)), connections)
    with pytest.raises(HostError, match="host key is not known"):
        host.run(["true"], timeout=10)


def test_known_hosts_that_cannot_be_read(server: RunningSSHD, connections: Connections, tmp_path: Path) -> None:
    host = ssh_host(server.access(known_hosts=str(tmp_path)), connections)
    with pytest.raises(HostError, match=f"cannot read {tmp_path}: Is a directory"):
        host.run(["true"], timeout=10)


def test_a_changed_host_key_is_refused(server: RunningSSHD, connections: Connections, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {make_key(tmp_path / 'other')}\n")
    host = ssh_host(server.access(known_hosts=str(known)), connections)
    with pytest.raises(HostError, match="its host key has changed") as caught:
        host.run(["true"], timeout=30)
    assert "ssh-keygen -R" in caught.value.hint


def test_a_key_that_is_not_authorized(server: RunningSSHD, connections: Connections, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    host = ssh_host(server.access(key_file=str(tmp_path / "stranger")), connections)
    with pytest.raises(HostError, match="no key was accepted"):
        host.run(["true"], timeout=30)


def test_nobody_listens(connections: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    host = ssh_host(SSHAccess(host="127.0.0.1", port=port), connections)
    with pytest.raises(
        HostError, match=rf"^db1: 127\.0\.0\.1: no SSH connection to 127\.0\.0\.1:{port}: Connection re"
    ):
        host.run(["true"], timeout=30)


def test_a_key_from_an_agent(server: RunningSSHD, connections: Connections, tmp_path: Path) -> None:
    agent_socket = tmp_path / "agent"
    config = tmp_path / "config"
    config.write_text(f"Host *\n  UserKnownHostsFile {server.known_hosts}\n  IdentityFile /nonexistent\n")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(agent_socket)], stdout=subprocess.DEVNULL)
    before = os.environ.get("SSH_AUTH_SOCK")
    try:
        wait_until(agent_socket.exists, what="the agent listens")
        os.environ["SSH_AUTH_SOCK"] = str(agent_socket)
        subprocess.run(["ssh-add", "-q", str(server.client_key)], check=True)
        host = ssh_host(server.access(config_file=str(config)), connections)
        assert host.run(["echo", "yes"], timeout=30).stdout == b"yes\n"
    finally:
        del os.environ["SSH_AUTH_SOCK"]
        if before is not None:
            os.environ["SSH_AUTH_SOCK"] = before
        agent.terminate()
        agent.wait(30)


# --- the way -------------------------------------------------------------------------------------------


def test_the_configuration_names_host_port_and_jump_host(
    server: RunningSSHD, connections: Connections, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host orders-1\n  HostName 127.0.0.1\n  ProxyJump bastion\n"
        f"Host *\n  Port {server.port}\n  UserKnownHostsFile {server.known_hosts}\n"
        f"  IdentityFile {server.client_key}\n  IdentitiesOnly yes\n"
        "Host bastion\n  HostName 127.0.0.1\n"
    )
    host = ssh_host(SSHAccess(host="orders-1", config_file=str(config), become=False), connections)
    # seen from there, the connection comes from the jump host's sshd
    assert host.run(["sh", "-c", "echo $SSH_CONNECTION"], timeout=30).stdout.startswith(b"127.0.0.1 ")
    assert len(connections.opened()) == 2


def test_a_jump_host_that_cannot_reach_the_host(server: RunningSSHD, connections: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    access = server.access(port=port, jump=f"127.0.0.2:{server.port}")
    with pytest.raises(HostError, match=r"^db1: "):
        ssh_host(access, connections).run(["true"], timeout=30)
