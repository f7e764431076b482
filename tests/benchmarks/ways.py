"""The ways in which Prometheus may find a Kamal app: one scrape job each, side by side."""

from collections.abc import Sequence
from typing import NamedTuple

from tests.benchmarks.deployer import NETWORK, PORT, ROLES
from tests.lab.prometheus import Json, http_sd_job

SOCKET = "/var/run/docker.sock"
FILE_SD = "/file_sd/targets.json"


class Way(NamedTuple):
    """A way, its name in the tables, and its scrape job, which has the same name.

    `address` is the kind of address that kamal-sd serves; without one the way is not kamal-sd's.
    """

    name: str
    job: Json
    address: str = ""


def docker_sd(refresh: str) -> Way:
    """Prometheus' own discovery, with the relabelling that people use for Kamal."""
    label = "__meta_docker_container_label_"
    name = f"docker_sd, {refresh}"
    job = {
        "job_name": name,
        "docker_sd_configs": [{"host": f"unix://{SOCKET}", "refresh_interval": refresh}],
        "relabel_configs": [
            keep([f"{label}role"], ".+"),
            keep([f"{label}prometheus_port"], ".+"),
            keep(["__meta_docker_network_name"], NETWORK),
            {
                "source_labels": ["__meta_docker_network_ip", f"{label}prometheus_port"],
                "separator": ":",
                "target_label": "__address__",
            },
            copy([f"{label}service"], "service"),
            copy([f"{label}role"], "role"),
            copy([f"{label}service", f"{label}role"], "instance"),
        ],
    }
    return Way(name, job)


def static(services: Sequence[str]) -> Way:
    """The network aliases, written down by hand."""
    name = "static alias"
    groups = [
        {
            "targets": [f"{service}-{role}:{PORT}"],
            "labels": {"service": service, "role": role},
        }
        for service in services
        for role in ROLES
    ]
    return Way(name, {"job_name": name, "static_configs": groups})


def http_sd(base: str, address: str, refresh: str) -> Way:
    """kamal-sd over HTTP, asked for one kind of address."""
    name = f"kamal-sd {address}, {refresh}"
    job = http_sd_job(f"{base}/targets?address={address}", name=name, refresh=refresh)
    return Way(name, job, address)


def file_sd() -> Way:
    """kamal-sd's file of IPs, which Prometheus watches."""
    name = "kamal-sd ip, file_sd"
    return Way(name, {"job_name": name, "file_sd_configs": [{"files": [FILE_SD]}]}, "ip")


def keep(labels: list[str], regex: str) -> Json:
    return {"action": "keep", "source_labels": labels, "regex": regex}


def copy(labels: list[str], target: str) -> Json:
    return {"source_labels": labels, "separator": "-", "target_label": target}
