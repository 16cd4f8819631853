"""The parts of the comparison: each is a module with `run(bench)`, which returns rows."""

from . import bulk, crowd, even, logins, memory, pools, routing, settings, storm, tls_logins, transactions

PARTS = {
    "transactions": transactions.throughput,
    "alone": transactions.alone,
    "logins": logins.run,
    "tls-logins": tls_logins.run,
    "storm": storm.run,
    "crowd": crowd.run,
    "bulk": bulk.run,
    "pools": pools.run,
    "even": even.run,
    "memory": memory.run,
    "routing": routing.run,
    "settings": settings.run,
}
