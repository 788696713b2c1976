#!/bin/sh
# Starts PostgreSQL as the user that the container was given. On the first start it creates the cluster, the database
# `pricing`, and the role `pricing`, which owns one schema in it and nothing else (postgres.sql). The image's own entry
# point may want root to change owners first; this never does, so the container needs no capability and nothing but its
# volume is writable.
#
# Needs PGDATA, a path inside a directory that the user owns, and PASSWORD_FILE, the password of the role. It is set at
# every start: a new password counts after a restart. The superuser has no password and no way in over the network.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Built beside its final place and moved there whole: an interrupted first start leaves no half cluster.
  new=$PGDATA.new
  rm -rf "$new"
  # Collation "C" orders ids byte by byte, as the embedded database does.
  initdb --pgdata="$new" --username=postgres --auth-local=peer --auth-host=reject \
    --encoding=UTF8 --no-locale --data-checksums
  printf '%s\n' 'local all postgres peer' 'host pricing pricing all scram-sha-256' > "$new/pg_hba.conf"
  echo "CREATE DATABASE pricing;" | postgres --single -D "$new" postgres > /dev/null
  # In this mode each line is one statement.
  postgres --single -D "$new" pricing < /etc/postgres.sql > /dev/null
  mv "$new" "$PGDATA"
fi
printf "ALTER ROLE pricing PASSWORD '%s';\n" "$(cat "$PASSWORD_FILE")" |
  postgres --single -D "$PGDATA" pricing > /dev/null
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
