"""What a socket proxy with our rules lets through and what not, as request lines."""

from typing import Final

NAME: Final = "shop-web-v1"
ID: Final = "0123456789abcdef" * 4

PASS: Final = [
    "GET /version",
    "GET /v1.41/containers/json",
    "GET /v1.24/containers/json?all=1&limit=-1",
    "GET /v1.41/containers/json?x=/../y",
    "GET /v1.41/events?until=1",
]

# What passes where the switches are on, and not as shipped.
SWITCHED: Final = [
    f"GET /v1.41/containers/{ID}/json",
    f"GET /v1.41/containers/{ID}/json?size=0",
    "POST /v1.41/networks/kamal-sd/connect",
    "POST /v1.41/networks/kamal-sd/disconnect",
]

# Another way to say what may be asked. HAProxy, which looks at a path as it came, refuses it.
ENCODED: Final = [
    "GET /v1.41/containers/%6ason",
    "GET /v1.41/%63ontainers/json",
    "GET /v1.41%2fcontainers/json",
    "GET http://docker/v1.41/containers/json",
]

REFUSED: Final = [
    # --- the contents of containers ---
    *(
        f"GET /v1.41/containers/{NAME}/{what}"
        for what in ("json", "logs?stdout=1", "export", "top")
    ),
    *(f"GET /v1.41/containers/{ID}/{what}" for what in ("logs?stdout=1", "export", "changes")),
    *(f"GET /containers/{NAME}/{what}" for what in ("json", "archive?path=/etc", "stats")),
    f"GET /v1.41/containers/{NAME}/archive?path=/etc/passwd",
    f"PUT /v1.41/containers/{ID}/archive?path=/",
    f"HEAD /v1.41/containers/{ID}/archive?path=/",
    f"GET /v1.41/containers/{ID}/attach/ws?stream=1",
    # --- what changes something ---
    "POST /v1.41/containers/create",
    "POST /containers/create?name=x",
    *(
        f"POST /v1.41/containers/{ID}/{what}"
        for what in ("exec", "attach", "start", "kill", "update", "json")
    ),
    f"POST /v1.41/exec/{ID}/start",
    f"DELETE /v1.41/containers/{ID}?force=1",
    "POST /v1.41/images/create?fromImage=x",
    "POST /v1.41/networks/create",
    "POST /v1.41/networks/kamal/connect",
    "POST /v1.41/networks/kamal-sd2/connect",
    "POST /v1.41/networks/kamal-sd%2f..%2fkamal/connect",
    "POST /v1.41/networks/kamal-sd/../kamal/connect",
    "GET /v1.41/networks/kamal-sd/connect",
    "DELETE /v1.41/networks/kamal-sd",
    *("POST /build", "POST /session", "POST /grpc", "POST /v1.41/plugins/pull?remote=x"),
    # --- the other methods ---
    *(
        f"{method} /v1.41/containers/json"
        for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
    ),
    *(f"{method} /version" for method in ("HEAD", "POST", "get", "Get", "CONNECT")),
    "OPTIONS *",
    "CONNECT docker:80",
    # --- other questions ---
    *(
        f"GET /v1.41/{what}"
        for what in ("images/json", "networks", "volumes", "info", "secrets", "system/df")
    ),
    *("GET /_ping", "GET /v1.41/_ping", "GET /v1.41/version", "GET /", "GET /metrics"),
    *("GET /containers/json", "GET /events"),
    # --- other versions ---
    *(
        f"GET /{version}/containers/json"
        for version in ("v2.41", "v1.4x", "v1.4", "v1.4100", "v1.-41", "v1", "v1.41.0", "v01.41")
    ),
    *(
        "GET /v1.41/v1.41/containers/json",
        "GET /V1.41/containers/json",
        "GET /v1x41/containers/json",
    ),
    # --- other ends and other letters ---
    "GET /v1.41/containers/json/",
    "GET /v1.41/containers/jsonx",
    "GET /v1.41/containers/JSON",
    "GET /v1.41/events/x",
    "GET /version/",
    "GET /VERSION",
    "GET version",
    f"GET /v1.41/containers/{ID.upper()}/json",
    f"GET /v1.41/containers/{ID[:12]}/json",
    f"GET /v1.41/containers/{ID}0/json",
    # --- odd paths ---
    f"GET /v1.41/containers/json/../{NAME}/json",
    f"GET /v1.41/containers/json%2f..%2f{NAME}%2fjson",
    f"GET /v1.41/events/..%2fcontainers/{NAME}/json",
    f"GET /v1.41/containers/{ID}/json/../logs",
    f"GET /v1.41/containers/{ID}%2fjson%2f..%2flogs",
    f"GET /version/../containers/{NAME}/json",
    f"GET /version%2f..%2fcontainers%2f{NAME}%2fjson",
    "GET //v1.41/containers/json",
    "GET /v1.41//containers/json",
    "GET /%2fv1.41/containers/json",
    "GET /v1.41/./containers/json",
    "GET /v1.41/%2e/containers/json",
    "GET /v1.41/containers/%256ason",
    "GET /v1.41/containers/json;x",
    "GET /v1.41/containers/json%3fx",
    "GET /v1.41/containers/json#x",
    "GET /v1.41/containers/json%00",
    "GET /v1.41/containers/json%0a",
    "GET /v1.41/containers/json%0d%0aX:%20y",
    "GET /v1.41/containers/json%20",
    "GET /v1.41/containers/json%",
    "GET /v1.41/containers/json%zz",
    "GET /v1.41/containers/%u006ason",
    "GET \\v1.41\\containers\\json",
    f"GET http://docker/v1.41/containers/{NAME}/json",
    "GET unix:/v1.41/containers/create",
]
