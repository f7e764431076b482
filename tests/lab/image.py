"""The sample app: a shell script that serves metrics, in an image without anything else."""

import io
import tarfile
from pathlib import Path
from typing import Literal

from tests.lab.engine import Docker
from tests.lab.packages import installed, unpacked

RATE = 10
"""How much `shop_requests_total` grows in a second."""

Behaviour = Literal["plain", "checked", "unhealthy", "crashing", "closing"]

APP = """#!/bin/sh
# app ROLE: serves /metrics and /up on ports 9394 and 80, and drains for $APP_DRAIN s on SIGTERM.
[ "$APP_BEHAVIOUR" = crashing ] && { echo "this version cannot start" >&2; exit 1; }
export APP_ROLE=${1:-none} APP_STARTED=$(date +%s)
read -r APP_UPTIME _ </proc/uptime
# Kamal sets the host name; the engine's own files tell the container's id.
id="[/-]containers/\\([0-9a-f]\\{12\\}\\)[0-9a-f]*/\\(userdata/\\)*hostname"
APP_CONTAINER=$(sed -n "s|.*$id .*|\\1|p" /proc/self/mountinfo)
export APP_UPTIME APP_CONTAINER
for port in 9394 80; do nc -ll -p $port -e /bin/answer & servers="$servers $!"; done
drain() {
    [ "$APP_BEHAVIOUR" = closing ] && kill $servers
    sleep $APP_DRAIN
    [ "$APP_BEHAVIOUR" = closing ] || kill $servers
    exit 0
}
trap drain TERM
wait
"""

ANSWER = f"""#!/bin/sh
# Answers a request, and with $APP_KEEP_ALIVE the next ones on the same connection.
while read -r _ path _; do
    connection=${{APP_KEEP_ALIVE:+keep-alive}}
    # What is left unread would reset the connection.
    while read -r line && [ -n "${{line%?}}" ]; do
        case $line in [Cc]onnection:*[Cc]lose*) connection= ;; esac
    done
    status="200 OK" body="ok
"
    case $path in
    /metrics)
        read -r now _ </proc/uptime
        whole=${{now%.*}} part=${{now#*.}} first=${{APP_UPTIME%.*}} rest=${{APP_UPTIME#*.}}
        hundredths=$(((whole - first) * 100 + 1$part - 1$rest))
        body="# TYPE shop_requests_total counter
shop_requests_total $((hundredths * {RATE} / 100))
# TYPE shop_build_info gauge
shop_build_info{{role=\\"$APP_ROLE\\",version=\\"$APP_VERSION\\",container=\\"$APP_CONTAINER\\"}} 1
# TYPE process_start_time_seconds gauge
process_start_time_seconds $APP_STARTED
"
        ;;
    /up) [ "$APP_BEHAVIOUR" = unhealthy ] && status="503 Service Unavailable" body="not well
" ;;
    *) status="404 Not Found" body="nothing here
" ;;
    esac
    printf 'HTTP/1.1 %s\\r\\nContent-Type: text/plain; version=0.0.4\\r\\nContent-Length: %d\\r\\n\
Connection: %s\\r\\n\\r\\n%s' "$status" ${{#body}} "${{connection:-close}}" "$body"
    [ "$connection" ] || exit 0
done
"""

CHECK = (
    "HEALTHCHECK --interval=1s --timeout=2s --retries=2 "
    'CMD ["/bin/wget", "-q", "-O", "/dev/null", "http://127.0.0.1/up"]'
)


def build(
    engine: Docker,
    reference: str,
    version: str,
    *,
    service: str = "shop",
    behaviour: Behaviour = "plain",
    drain: float = 1,
    keep_alive: bool = False,
) -> None:
    """Import the sample app into the engine under the name `reference`.

    Its counter grows by RATE a second from the start of the process, and its info metric tells
    which container answers. `plain` has no health check, `checked` one that passes, `unhealthy`
    one that fails while metrics are served, `crashing` exits at once, and `closing` does not listen
    any more while it drains. It closes each connection after its answer, unless it is to keep them
    alive.
    """
    changes = [
        f"LABEL service={service}",
        f"ENV APP_VERSION={version} APP_BEHAVIOUR={behaviour} APP_DRAIN={drain:g}"
        + (" APP_KEEP_ALIVE=1" if keep_alive else ""),
        'CMD ["/bin/app"]',
    ]
    if behaviour in {"checked", "unhealthy"}:
        changes.append(CHECK)
    options = [word for change in changes for word in ("--change", change)]
    engine.docker("import", *options, "-", reference, data=root_archive())


def root_archive() -> bytes:
    """Return the app's root as a tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        files = {"busybox": busybox().read_bytes(), "app": APP.encode(), "answer": ANSWER.encode()}
        for name, data in files.items():
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name in ("sh", "nc", "sleep", "date", "sed", "wget", "nslookup", "kill"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return content.getvalue()


def busybox() -> Path:
    """Return a static busybox; the machine keeps the one that it has."""
    if installed("busybox-static"):
        return Path("/bin/busybox")
    return unpacked("busybox-static") / "bin" / "busybox"
