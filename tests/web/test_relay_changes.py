"""An address that changes hands, and a container on its way out: who is asked, and who is not."""

from collections.abc import Callable
from typing import Final

import pytest

from app.web.upstream import Connection, Connections
from tests.builders import container, labels
from tests.web.apps import NEW, OLD, TIMEOUT, WEB_PATH, Served, next_one, wait_for
from tests.web.sockets import FIRST, SECOND, App, answer, later, reset

LONG: Final = {TIMEOUT: "10"}


class Moment:
    """Makes something happen after the relay has chosen a container, and before it connects."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.happens: Callable[[], object] | None = None
        take = Connections.take

        async def delayed(connections: Connections) -> Connection:
            happens, self.happens = self.happens, None
            if happens:
                happens()
            return await take(connections)

        patch.setattr(Connections, "take", delayed)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> Moment:
    return Moment(monkeypatch)


def test_nothing_is_sent_to_an_address_that_has_changed_hands(
    old: App, new: App, served: Served, moment: Moment
) -> None:
    """The old one's address is another role's, whose metrics are no business of this one."""
    served.looked(next_one(new))

    def pass_on() -> None:
        served.died(OLD)
        old.reply = answer(b"of another role\n")

    moment.happens = pass_on
    assert served.ask(headers=LONG).body == b"version 2\n"
    assert not old.asked
    wait_connections_ended(old)


def test_nothing_is_sent_on_a_connection_that_was_kept_either(
    old: App, new: App, served: Served, moment: Moment
) -> None:
    served.looked(next_one(new))
    assert served.ask().body == b"version 1\n"
    moment.happens = lambda: served.died(OLD)
    assert served.ask(headers=LONG).body == b"version 2\n"
    assert len(old.asked) == 1
    wait_connections_ended(old)


def test_nothing_is_sent_to_one_that_was_superseded_before_it_was_asked(
    old: App, new: App, served: Served, moment: Moment
) -> None:
    moment.happens = lambda: served.looked(next_one(new, ago=500.0))
    assert served.ask(headers=LONG).body == b"version 2\n"
    assert not old.asked


def test_an_address_that_is_given_to_another_role_is_asked_for_that_one_alone(
    old: App, new: App, served: Served, moment: Moment
) -> None:
    assert served.ask().body == b"version 1\n"
    old.vanish()
    with App(answer(b"of another role\n"), old.ip) as other:

        def hand_over() -> None:
            served.died(OLD)
            served.looked(container("blog-web-v1", ip=old.ip, labels=labels("blog")))
            served.looked(next_one(new))

        moment.happens = hand_over
        assert served.ask(headers=LONG).body == b"version 2\n"
        assert not other.asked
        assert served.ask(WEB_PATH.replace("shop", "blog")).body == b"of another role\n"


def test_the_same_address_is_taken_by_the_successor(old: App, served: Served) -> None:
    """IPs are given again within seconds: the one that stopped last is the first to be free."""
    assert served.ask().body == b"version 1\n"
    old.vanish()
    served.died(OLD)
    assert served.ask().status == 503
    with App(SECOND, old.ip) as second:
        served.looked(container(NEW, ago=5.0, ip=old.ip))
        assert served.ask().body == b"version 2\n"
        assert len(second.asked) == 1


def wait_connections_ended(app: App) -> None:
    assert app.connections
    wait_for(lambda: not app.open, "the connections to be closed")


def test_one_that_was_told_to_stop_is_asked_as_long_as_it_answers(new: App, served: Served) -> None:
    served.looked(next_one(new))
    served.told_to_stop(OLD)
    for _ in range(3):
        assert served.ask(headers=LONG).body == b"version 1\n"
    assert not new.asked
    served.counts(ok=3)


def test_one_that_was_told_to_stop_and_refuses_is_not_waited_for(
    old: App, new: App, served: Served
) -> None:
    """Many servers close their port first, and then finish what they have begun."""
    served.looked(next_one(new))
    served.told_to_stop(OLD)
    old.vanish()
    for _ in range(3):
        assert served.ask(headers=LONG).body == b"version 2\n"
    assert not old.asked
    served.died(OLD)
    assert served.ask(headers=LONG).body == b"version 2\n"
    # Its connection is kept when it becomes the current one.
    assert new.connections == 1


def test_one_that_refused_on_its_way_out_is_not_gone_back_to(
    old: App, new: App, served: Served
) -> None:
    served.looked(next_one(new))
    served.told_to_stop(OLD)
    old.reply = reset
    assert served.ask(headers=LONG).body == b"version 2\n"
    old.reply = FIRST
    asked = len(old.asked)
    assert served.ask(headers=LONG).body == b"version 2\n"
    assert len(old.asked) == asked


def test_one_that_was_told_to_stop_and_has_no_successor_has_died(old: App, served: Served) -> None:
    served.told_to_stop(OLD)
    old.vanish()
    with later(0.1, lambda: served.died(OLD)):
        assert served.ask(headers=LONG).status == 503
