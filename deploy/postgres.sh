#!/bin/sh
# Starts PostgreSQL as the user that the container was given. On the first start it creates the cluster, the database
# `pricing`, and the role `pricing`, which owns one schema in it and nothing else (postgres.sql). The image's own entry
# point may want root to change owners first; this never does, so the container needs no capability and nothing but its
# volume is writable.
#
# Needs PGDATA, a path inside a directory that the user owns, and PASSWORD_FILE, the password of the role. It is set at
# every start: a new password counts after a restart. The superuser has no password and no way in over the network.
set -eu

# The only way in over the network: the role, to its database. A volume of an older version lacks this line.
role_rule='host pricing pricing all scram-sha-256'

# Runs statements, one a line, in a cluster that is not started: run DIRECTORY DATABASE. The first error ends it with
# status 1. The log does not repeat the statement: one of them holds the password.
run() {
  postgres --single -c exit_on_error=on -c log_min_error_statement=panic -D "$1" "$2" > /dev/null
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Built beside its final place and moved there whole: an interrupted first start leaves no half cluster.
  new=$PGDATA.new
  rm -rf "$new"
  # Collation "C" orders ids byte by byte, as the embedded database does.
  initdb --pgdata="$new" --username=postgres --auth-local=peer --auth-host=reject \
    --encoding=UTF8 --no-locale --data-checksums
  printf '%s\n' 'local all postgres peer' "$role_rule" > "$new/pg_hba.conf"
  echo "CREATE DATABASE pricing;" | run "$new" postgres
  run "$new" pricing < /etc/postgres.sql
  mv "$new" "$PGDATA"
fi
if ! grep -qxF "$role_rule" "$PGDATA/pg_hba.conf"; then
  echo "The volume of PostgreSQL was made by an older version, in which the role pricing is a superuser." \
    "Dump the database, remove the volume, start again and restore the dump:" \
    "docs/operations.md, section \"A volume of an older version\", has the commands." >&2
  exit 1
fi
password=$(sed "s/'/''/g" "$PASSWORD_FILE")
printf "ALTER ROLE pricing PASSWORD '%s';\n" "$password" | run "$PGDATA" pricing
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
