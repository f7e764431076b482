import pytest

from app.discovery import kamal
from app.model import Container, Kind, Slot
from tests.builders import container

SHA = "3f8a1c9e5b7d2046813579bdf02468ace13579bd"
HEX = "529c2e3bdf30ae58"
TITLE = "org.opencontainers.image.title"


def given(name: str, labels: dict[str, str], image: str = "registry.example/shop:v1") -> Container:
    return container(name, labels=labels, image=image)


@pytest.mark.parametrize(
    ("labels", "name", "kind"),
    [
        pytest.param({"service": "shop", "role": "web"}, "x", Kind.APP, id="service and role"),
        pytest.param(
            {"service": "shop", "role": "web", "destination": ""}, "x", Kind.APP, id="since 1.5"
        ),
        pytest.param({"service": "x", "role": "web"}, "x", Kind.APP, id="named as its service"),
        pytest.param({"service": "shop-db", "role": ""}, "shop-db", Kind.ACCESSORY, id="accessory"),
        pytest.param({"service": "shop"}, "shop-web-exec-v1-a1b2c3", Kind.ONE_OFF, id="app exec"),
        pytest.param({"service": "shop"}, "shop-web-assets", Kind.ONE_OFF, id="assets"),
        pytest.param({TITLE: "kamal-proxy"}, "kamal-proxy", Kind.PROXY, id="kamal-proxy"),
        pytest.param({TITLE: "kamal-proxy"}, "renamed", Kind.PROXY, id="kamal-proxy renamed"),
        pytest.param(
            {TITLE: "kamal-proxy", "service": "shop", "role": "web"},
            "shop-web-v1",
            Kind.APP,
            id="an app built on kamal-proxy's image",
        ),
        pytest.param(
            {TITLE: "nginx"}, "kamal-proxy", Kind.FOREIGN, id="only the name is a proxy's"
        ),
        pytest.param({}, "shop-web-v1", Kind.FOREIGN, id="only the name is an app's"),
        pytest.param({"role": "web"}, "shop-web-v1", Kind.FOREIGN, id="a role without a service"),
        pytest.param({"service": ""}, "", Kind.FOREIGN, id="an empty service as an empty name"),
    ],
)
def test_a_kind_is_told_by_labels(labels: dict[str, str], name: str, kind: Kind) -> None:
    assert kamal.kind_of(given(name, labels)) is kind


@pytest.mark.parametrize(
    ("labels", "slot"),
    [
        ({"service": "shop", "role": "web"}, Slot("h", "shop", "web", "")),
        ({"service": "shop", "role": "web", "destination": ""}, Slot("h", "shop", "web", "")),
        (
            {"service": "shop", "role": "web", "destination": "production"},
            Slot("h", "shop", "web", "production"),
        ),
        ({"service": "shop-db"}, Slot("h", "shop-db")),
    ],
)
def test_a_slot_is_what_the_labels_say(labels: dict[str, str], slot: Slot) -> None:
    assert kamal.slot_of("h", given("any", labels), Kind.APP) == slot


def test_the_slot_of_kamal_proxy_is_always_the_same() -> None:
    labels = {TITLE: "kamal-proxy", "service": "other"}
    assert kamal.slot_of("h", given("renamed", labels), Kind.PROXY) == Slot("h", "kamal-proxy")


@pytest.mark.parametrize(
    ("slot", "name"),
    [
        (Slot("h", "shop"), "shop"),
        (Slot("h", "shop", "web"), "shop-web"),
        (Slot("h", "shop", "web", "production"), "shop-web-production"),
    ],
)
def test_a_slot_is_named_as_kamal_begins_its_containers_names(slot: Slot, name: str) -> None:
    assert slot.name == name


WEB = Slot("", "shop", "web")
PRODUCTION = Slot("", "shop", "web", "production")


@pytest.mark.parametrize(
    ("name", "slot", "version"),
    [
        pytest.param(f"shop-web-{SHA}", WEB, SHA, id="sha"),
        pytest.param(
            f"shop-web-{SHA}_uncommitted_{HEX}", WEB, f"{SHA}_uncommitted_{HEX}", id="uncommitted"
        ),
        pytest.param(f"shop-web-{SHA}_replaced_{HEX}", WEB, SHA, id="replaced"),
        pytest.param(
            f"shop-web-{SHA}_uncommitted_{HEX}_replaced_{HEX}",
            WEB,
            f"{SHA}_uncommitted_{HEX}",
            id="uncommitted and replaced",
        ),
        pytest.param("shop-web-latest", WEB, "latest", id="latest"),
        pytest.param(
            "shop-web-production-latest-production",
            PRODUCTION,
            "latest-production",
            id="latest of a destination",
        ),
        pytest.param(
            "shop-web-production-v1", WEB, "production-v1", id="a version that looks like more"
        ),
        pytest.param("shop-web-v1-rc.1", WEB, "v1-rc.1", id="any string"),
        pytest.param(f"shop-web-v1_replaced_{HEX}0", WEB, f"v1_replaced_{HEX}0", id="17 digits"),
        pytest.param(
            f"shop-web-v1_replaced_{HEX}\n", WEB, f"v1_replaced_{HEX}\n", id="a line more"
        ),
        pytest.param(
            f"shop-web-v1_replaced_{HEX.upper()}",
            WEB,
            f"v1_replaced_{HEX.upper()}",
            id="capital digits",
        ),
    ],
)
def test_the_version_is_what_follows_the_slot_in_the_name(
    name: str, slot: Slot, version: str
) -> None:
    assert kamal.version_of(given(name, {}), slot) == version


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("registry.example/shop:v1", "v1"),
        ("registry.example:5000/shop:v1", "v1"),
        ("shop:latest-production", "latest-production"),
        ("registry.example:5000/shop", ""),
        ("shop", ""),
        (":v1", ""),
        ("", ""),
    ],
)
def test_where_the_name_does_not_fit_the_image_tag_is_the_version(image: str, version: str) -> None:
    # A label `service: other` in deploy.yml leaves the name as it was.
    other = Slot("", "other", "web")
    assert kamal.version_of(given("shop-web-v9", {}, image), other) == version


@pytest.mark.parametrize(
    "image", ["sha256:" + "ab" * 32, "registry.example/shop@sha256:" + "ab" * 32]
)
def test_a_digest_is_no_version(image: str) -> None:
    assert kamal.version_of(given("shop-web-v9", {}, image), Slot("", "other", "web")) == ""


def test_an_accessory_has_its_images_version() -> None:
    exporter = given("shop-exporter", {}, "prom/exporter:v1.2")
    assert kamal.version_of(exporter, Slot("", "shop-exporter")) == "v1.2"
