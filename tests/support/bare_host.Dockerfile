# A host that MySQL is yet to be installed on, from a directory, without a network; see container_image.py.
ARG HOST
FROM ${HOST}
# /srv/packages has what the host above had; /srv/newer the same server as a newer package
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -qq -o Acquire::Check-Valid-Until=false \
 && apt-get install -y -qq --no-install-recommends python3-apt \
 && mkdir /srv/packages /srv/newer && cd /srv/packages \
 && apt-get download -q mysql-server mysql-server-core mysql-client mysql-client-core mysql-common \
 && apt-get purge -y -qq 'mysql-*' && rm -rf /etc/mysql /var/log/mysql \
 && dpkg-deb -R mysql-server_*.deb /tmp/newer && sed -i 's/^Version: .*/&+newer/' /tmp/newer/DEBIAN/control \
 && dpkg-deb -b -Zgzip /tmp/newer /srv/newer && rm -r /tmp/newer \
 && for directory in /srv/packages /srv/newer; do \
      cd $directory && for file in *.deb; do \
        dpkg-deb -f $file && printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
          $file $(stat -c %s $file) $(sha256sum $file | cut -d' ' -f1); \
      done > Packages; \
    done \
 && rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/preferences.d/* /var/lib/apt/lists/* \
 && echo 'deb [trusted=yes] file:/srv/packages ./' > /etc/apt/sources.list && apt-get update -qq
