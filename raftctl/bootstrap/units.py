"""What systemd is told: raftctl's own units, and a drop-in for MySQL's. Pure.

The controller runs as root, with few capabilities and a read-only system: fencing must not depend on polkit, D-Bus
activation or sudo at the moment in which a host is in trouble, and cutting a binary log's tail needs mysqld's files.
Manual: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

from __future__ import annotations

from typing import Final

from raftctl.bootstrap.layout import Layout

# Not /etc/systemd/system: what stands there cannot be masked for the time until the next boot.
UNIT_DIRECTORY: Final = "/usr/local/lib/systemd/system"
DROP_IN_DIRECTORY: Final = "/etc/systemd/system"
STOP_SECONDS: Final = 60
NICE: Final = -10  # of controller and guard

_HARDENING: Final = """\
# CAP_KILL and CAP_DAC_OVERRIDE: mysqld and its files belong to the user mysql
CapabilityBoundingSet=CAP_KILL CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""


# Nice counts among the processes of a control group or session, CPUWeight between control groups.
_PRIORITY: Final = f"""\
Nice={NICE}
CPUWeight=1000
"""


def controller_unit(layout: Layout, program: str) -> str:
    """`program` is the path of raftctl. It is ready when the API listens; its event loop answers to a watchdog."""
    return f"""\
[Unit]
Description=raftctl controller
After=network-online.target
Wants=network-online.target
ConditionPathExists={layout.config}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} controller run --config {layout.config}
Restart=always
RestartSec=200ms
WatchdogSec=10s
TimeoutStartSec=60s
TimeoutStopSec=15s
KillMode=mixed
# an election must not wait for other processes, and the kernel is to end others first when memory runs out
{_PRIORITY}\
OOMScoreAdjust=-900
{_HARDENING}
[Install]
WantedBy=multi-user.target
"""


def guard_unit(layout: Layout, program: str) -> str:
    """It has nothing in common with the controller but the configuration, and outlives it."""
    return f"""\
[Unit]
Description=raftctl guard: fences MySQL when the controller is gone
ConditionPathExists={layout.config}
StartLimitIntervalSec=0

[Service]
ExecStart={program} controller guard --config {layout.config}
Restart=always
RestartSec=200ms
TimeoutStopSec=5s
{_PRIORITY}\
OOMScoreAdjust=-950
# it stays in memory: fencing must not wait for a disk
LimitMEMLOCK=infinity
{_HARDENING}
[Install]
WantedBy=multi-user.target
"""


def mysqld_drop_in(layout: Layout, program: str) -> str:
    """For MySQL's own unit. The controller starts before it and stops after it, so that it can decide on both."""
    run = f"{program} controller"
    hand_over = f"timeout {STOP_SECONDS} {run} hand-over --config {layout.config} --timeout 20"
    stop = f'test -z "$$MAINPID" || {hand_over} || kill -KILL "$$MAINPID"'
    return f"""\
[Unit]
After=raftctl-controller.service network-online.target
Wants=raftctl-controller.service
StartLimitIntervalSec=0

[Service]
Restart=on-failure
RestartSec=200ms
# Holds mysqld back after a crash until it is known what nobody acknowledged (rule R9); + is as root.
ExecStartPre=-+{run} gate --config {layout.config}
# SIGTERM tells clients whose commits wait that they are safe: hand over first, else SIGKILL (rule R8).
# Without MAINPID mysqld has ended by itself, and there is nothing to hand over.
ExecStop=+/bin/sh -c '{stop}'
TimeoutStopSec={STOP_SECONDS + 120}s
"""
