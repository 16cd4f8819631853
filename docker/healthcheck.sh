#!/usr/bin/env bash
# Succeeds if /healthz of the stats port answers 200. The image has no curl.
# Usage: healthcheck.sh [PORT]
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/${1:-9127}"
printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 2 _ status _ <&3
[ "$status" = 200 ]
