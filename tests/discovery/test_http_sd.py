from dataclasses import replace
from itertools import permutations

import pytest

from app.discovery import http_sd
from app.discovery.decide import decide
from app.model import Container
from tests import http_sd_reader
from tests.builders import NOW, container, decisions, labels, settings, snapshot, stopped

SHOWN = [
    container("shop-web-v1"),
    container("shop-web-v2", ago=5),
    container("shop-web-production-v1", labels=labels(destination="production")),
    container("shop-job-v1", ip="172.18.0.6", labels=labels(role="job", port="9394,b=9395")),
    stopped("blog-web-v1", 5, labels=labels("blog")),
    container("foreign", labels={}),
]
ENGINES = [{"url": "unix:///a", "host": "a"}, {"url": "unix:///b", "host": "b"}]


def answer(*shown: Container, **filters: list[str]) -> bytes:
    wanted = {name: frozenset(values) for name, values in filters.items()}
    return http_sd.body(http_sd.fragments(decisions(*shown)), wanted)


def test_the_bytes_are_canonical() -> None:
    # Written out: whoever changes one byte changes every ETag.
    assert answer(container(id="c0ffee")) == (
        b'[{"labels":{"__meta_docker_container_id":"c0ffee",'
        b'"__meta_docker_container_image":"registry.example/shop:v1",'
        b'"__meta_docker_container_label_prometheus_port":"9394",'
        b'"__meta_docker_container_label_role":"web",'
        b'"__meta_docker_container_label_service":"shop",'
        b'"__meta_docker_container_name":"/shop-web-v1",'
        b'"__meta_docker_container_network_mode":"kamal",'
        b'"__meta_docker_network_ip":"172.18.0.5",'
        b'"__meta_docker_network_name":"kamal",'
        b'"__meta_docker_port_private":"9394",'
        b'"__meta_kamal_address":"ip",'
        b'"__meta_kamal_health":"none",'
        b'"__meta_kamal_kind":"app",'
        b'"__meta_kamal_role":"web",'
        b'"__meta_kamal_service":"shop",'
        b'"__meta_kamal_slot":"shop-web",'
        b'"__meta_kamal_state":"running",'
        b'"__meta_kamal_version":"v1",'
        b'"instance":"shop-web:9394","role":"web","service":"shop"},'
        b'"targets":["172.18.0.5:9394"]}]\n'
    )


def test_no_targets_are_an_empty_list() -> None:
    assert answer() == b"[]\n"


def test_each_target_is_on_a_line_of_its_own() -> None:
    lines = answer(*SHOWN).splitlines()
    assert len(lines) == 5
    assert len(http_sd_reader.read(answer(*SHOWN))) == 5


def test_the_order_of_containers_and_of_their_labels_does_not_matter() -> None:
    expected = answer(*SHOWN)
    for order in permutations(SHOWN[:4]):
        assert answer(*SHOWN[4:], *order) == expected
    turned = (replace(each, labels=dict([*each.labels.items()][::-1])) for each in SHOWN)
    assert answer(*turned) == expected


def test_what_is_not_ascii_is_written_as_utf_8() -> None:
    assert "größe ✓".encode() in answer(container(labels=labels("größe ✓")))


JOB = ["shop-job:9394", "shop-job:9395"]
WEB, PRODUCTION, BLOG = "shop-web:9394", "shop-web-production:9394", "blog-web:9394"


@pytest.mark.parametrize(
    ("filters", "instances"),
    [
        ({}, [BLOG, *JOB, WEB, PRODUCTION]),
        ({"service": []}, [BLOG, *JOB, WEB, PRODUCTION]),
        ({"service": ["blog"]}, [BLOG]),
        ({"service": ["blog", "shop"], "role": ["job"]}, JOB),
        ({"role": ["web"], "destination": ["production"]}, [PRODUCTION]),
        ({"role": ["web"], "destination": [""]}, [BLOG, WEB]),
        ({"role": ["web"], "destination": ["", "production"]}, [BLOG, WEB, PRODUCTION]),
        ({"host": [""], "role": ["job"]}, JOB),
        ({"service": ["none"]}, []),
        ({"service": ["sho"]}, []),
        ({"service": ["Shop"]}, []),
    ],
)
def test_filters_let_pass_what_has_one_of_their_values(
    filters: dict[str, list[str]], instances: list[str]
) -> None:
    found = http_sd_reader.read(answer(*SHOWN, **filters))
    assert [target.labels["instance"] for target in found] == instances


def test_a_host_is_filtered_by_its_name() -> None:
    snapshots = [snapshot(*SHOWN, host=host) for host in ("a", "b")]
    found = decide(snapshots, settings(engines=ENGINES), NOW).decisions
    body = http_sd.body(http_sd.fragments(found), {"host": frozenset({"b"})})
    assert {target.labels["host"] for target in http_sd_reader.read(body)} == {"b"}


def test_an_etag_is_strong_and_equal_for_equal_bytes_alone() -> None:
    one, same, other = answer(*SHOWN), answer(*reversed(SHOWN)), answer(*SHOWN[1:])
    assert http_sd.etag(one) == http_sd.etag(same) != http_sd.etag(other)
    assert http_sd.etag(one).startswith('"')
    assert http_sd.etag(one).endswith('"')
    assert len(http_sd.etag(b"")) == 34


def test_what_json_must_escape_is_carried_as_it_is() -> None:
    (target,) = http_sd_reader.read(answer(container(image='a"b\\c/<script>:v1')))
    assert target.labels["__meta_docker_container_image"] == 'a"b\\c/<script>:v1'
