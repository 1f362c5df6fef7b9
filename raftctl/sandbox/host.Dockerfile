# A host of `raftctl sandbox up --driver docker`: systemd as PID 1, sshd, and MySQL from Debian's unstable suite.
ARG BASE=debian:trixie-slim
FROM ${BASE}
RUN printf 'deb http://deb.debian.org/debian sid main\n' > /etc/apt/sources.list.d/sid.list \
 && printf 'Package: *\nPin: release a=unstable\nPin-Priority: 50\n' > /etc/apt/preferences.d/sid \
 && printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \
 && apt-get update -qq -o Acquire::Check-Valid-Until=false \
 && export DEBIAN_FRONTEND=noninteractive \
 && apt-get install -y -qq --no-install-recommends \
      systemd systemd-sysv dbus openssh-server python3 sudo iproute2 ca-certificates \
 && apt-get install -y -qq --no-install-recommends -t sid mysql-server \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /usr/sbin/policy-rc.d
# Each container has host keys, a machine id and a server UUID of its own, and starts nothing that needs hardware.
RUN rm -f /var/lib/mysql/auto.cnf /etc/ssh/ssh_host_* /etc/machine-id && touch /etc/machine-id \
 && mkdir -p /etc/systemd/system/ssh.service.d \
 && printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\n' > /etc/systemd/system/ssh.service.d/keys.conf \
 && printf '[mysqld]\nskip_name_resolve = ON\n' > /etc/mysql/mysql.conf.d/container.cnf \
 && useradd -m -s /bin/bash dba && echo 'dba ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/dba \
 && mkdir -m 700 /home/dba/.ssh && touch /home/dba/.ssh/authorized_keys && chown -R dba /home/dba/.ssh \
 && systemctl mask tmp.mount systemd-udevd.service getty.target console-getty.service systemd-logind.service \
      apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
 && systemctl enable ssh.service mysql.service
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
