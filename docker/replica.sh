#!/usr/bin/env bash
# Entry point of the replica: copies the primary once, then follows it.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    install -d -o postgres -g postgres -m 0700 "$PGDATA"
    PGPASSWORD=replicator gosu postgres pg_basebackup --host primary --username replicator \
        --wal-method stream --checkpoint fast --write-recovery-conf --pgdata "$PGDATA"
fi
exec docker-entrypoint.sh postgres
