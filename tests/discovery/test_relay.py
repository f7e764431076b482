"""The relay's paths: one for each slot and port, plain enough for whoever writes it into an URL."""

import re
from urllib.parse import unquote, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

from app.discovery import relay
from app.model import Slot, Upstream
from tests.builders import WEB, container, decision, labels, stopped

# What no program on the way escapes, joins or takes apart (RFC 3986, 2.3 and 6.2.2).
PLAIN = re.compile(r"/scrape(?:/[a-zA-Z0-9._~-]+){5,6}", re.ASCII)

# Parts of few letters, so that two of them come close to each other.
texts = st.text("a-~./% é\x00", max_size=4) | st.text(max_size=20)
slots = st.builds(Slot, texts, texts, texts, texts)
ports = st.integers(1, 65_535)
places = st.tuples(slots, ports, st.sampled_from(["", relay.NEXT]))


def test_the_path_is_made_of_the_slot_and_its_port() -> None:
    assert relay.path_of(WEB, 9394, "") == "/scrape/-/shop/web/-/9394"
    staging = Slot("one", "shop", "web", "staging")
    assert relay.path_of(staging, 9394, "") == "/scrape/one/shop/web/staging/9394"


def test_the_candidates_path_ends_with_next() -> None:
    assert relay.path_of(WEB, 9394, relay.NEXT) == "/scrape/-/shop/web/-/9394/next"


def test_a_text_that_is_not_plain_is_spelled_in_bytes() -> None:
    odd = Slot("", "a b", "é/", "~")
    assert relay.path_of(odd, 1, "") == "/scrape/-/~612062/~c3a92f/~7e/1"


@given(places, places)
@example((Slot("", "", "a"), 1, ""), (Slot("", "a", ""), 1, ""))
@example((Slot("", "-"), 1, ""), (Slot("", ""), 1, ""))
@example((Slot("", "~2d"), 1, ""), (Slot("", "-"), 1, ""))
@example((Slot("", "a/b", "c"), 1, ""), (Slot("", "a", "b/c"), 1, ""))
@example((Slot("", "a", "b", "1"), 2, ""), (Slot("", "a", "b"), 1, relay.NEXT))
def test_no_two_places_have_the_same_path(
    one: tuple[Slot, int, str], other: tuple[Slot, int, str]
) -> None:
    assert (relay.path_of(*one) == relay.path_of(*other)) is (one == other)


@given(places)
@example((Slot(".", "..", "..."), 1, ""))
@example((Slot("\N{ARABIC-INDIC DIGIT ONE}", "\ufb01", "a\n"), 1, ""))
def test_every_path_is_plain_and_names_no_other(place: tuple[Slot, int, str]) -> None:
    path = relay.path_of(*place)
    assert PLAIN.fullmatch(path)
    assert urlsplit(f"http://kamal-sd:9889{path}").path == path
    assert unquote(path) == path
    assert not {".", ".."} & set(path.split("/"))


def test_a_route_leads_to_the_decision_of_its_target() -> None:
    current = decision(container(), defaults={"address": "relay"})
    assert relay.routes([current]) == {"/scrape/-/shop/web/-/9394": current}
    assert current.upstream == Upstream("172.18.0.5:9394", "http", "/metrics")


def test_a_role_that_died_has_a_route_with_nothing_behind_it() -> None:
    kept = decision(stopped("shop-web-v1", 60.0), defaults={"address": "relay"})
    assert relay.routes([kept]) == {"/scrape/-/shop/web/-/9394": kept}
    assert kept.upstream is None


def test_what_is_no_target_of_the_relay_has_no_route() -> None:
    without_port = decision(container(labels=labels(port="")), defaults={"address": "relay"})
    direct = decision(container(), defaults={"address": "ip"})
    assert direct.target
    assert not relay.is_relayed(direct.target)
    assert relay.routes([without_port, direct]) == {}
