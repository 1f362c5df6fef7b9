"""`raftctl status --via ssh`: the controllers' API through tunnels, when nothing but SSH reaches the hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.fake_controllers import fake_cluster, make_credentials, with_addresses
from tests.support.member_facts import healthy, replace
from tests.support.sshd import sshd


def test_status_through_ssh(tmp_path: Path) -> None:
    answers = healthy()
    with sshd(tmp_path / "sshd") as server, fake_cluster(tmp_path, make_credentials()) as orders:
        for name in answers:
            orders.add(name, {})
        for name, answer in answers.items():
            known = replace(answer, state=with_addresses(answer.state, orders))
            orders.controllers[name].replies["GET /v1/member"] = (200, known)
        document = yaml.safe_load(orders.inventory.read_text())
        for variables in document["all"]["children"]["orders"]["hosts"].values():
            variables |= {
                "ansible_connection": "ssh",
                "ansible_port": server.port,
                "ansible_become": False,
                "ansible_ssh_common_args": f"-F {server.config}",
            }
        orders.inventory.write_text(yaml.safe_dump(document))
        done = subprocess.run(
            [sys.executable, "-m", "raftctl", "-i", str(orders.inventory), "status", "--via", "ssh", "-o", "json"],
            env={**os.environ, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["health"] == "ok"
    assert {member["via"] for member in found["members"]} == {"ssh"}
