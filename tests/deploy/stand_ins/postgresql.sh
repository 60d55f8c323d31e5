#!/bin/sh
# The first start makes the database and its owner, as that of the official image does.
set -eu
as="setpriv --reuid=postgres --regid=postgres --clear-groups"
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    $as mkdir -p "$PGDATA"
    $as initdb --username="$POSTGRES_USER" --pwfile=/tmp/password \
        --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "create database \"$POSTGRES_DB\"" | $as postgres --single postgres
fi
exec $as postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
