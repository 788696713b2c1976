#!/bin/sh
# Starts PostgreSQL as the user that the container was given, and creates the cluster and the database
# on the first start. The image's own entry point may want root to change owners first; this never does,
# so the container needs no capability and nothing but its volume is writable.
#
# Needs PGDATA (a path inside a directory that user owns) and POSTGRES_USER, POSTGRES_PASSWORD,
# POSTGRES_DB, which count on the first start only.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Built beside its final place and moved there whole: an interrupted first start leaves no half cluster.
  new=$PGDATA.new
  rm -rf "$new"
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  # Collation "C" orders ids byte by byte, as the embedded database does.
  initdb --pgdata="$new" --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 \
    --encoding=UTF8 --no-locale --data-checksums
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$new/pg_hba.conf"
  echo "CREATE DATABASE \"$POSTGRES_DB\";" | postgres --single -D "$new" postgres
  mv "$new" "$PGDATA"
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
