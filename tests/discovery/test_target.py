from dataclasses import replace

from app.discovery.target import one_series_each
from app.model import Decision, Kind, Reason, TargetGroup
from tests.builders import WEB, container, decisions, labels, targets


def a(name: str, address: str, **given: str) -> Decision:
    group = TargetGroup((address,), {"instance": "shop-web:9394", **given})
    return Decision("", container(name), Kind.APP, Reason.CURRENT, "", WEB, "v1", group)


def test_of_two_targets_with_one_series_the_first_stays() -> None:
    first, second = a("one", "10.0.0.1:1"), a("two", "10.0.0.2:1")
    found = list(one_series_each([first, second]))
    assert found[0] is first
    assert found[1].target is None
    assert found[1].reason is Reason.DUPLICATE
    assert "a target of one already" in found[1].detail
    assert "with {port} in it" in found[1].detail


def test_a_third_one_is_told_of_the_first() -> None:
    found = list(one_series_each([a("one", "x:1"), a("two", "x:1"), a("three", "x:1")]))
    assert [each.reason for each in found] == [Reason.CURRENT, Reason.DUPLICATE, Reason.DUPLICATE]
    assert "a target of one already" in found[2].detail


def test_a_plain_label_makes_another_series() -> None:
    found = list(one_series_each([a("one", "x:1"), a("two", "x:1", role="job")]))
    assert all(each.target for each in found)


def test_a_label_that_is_dropped_makes_no_other_series() -> None:
    one = a("one", "x:1", __metrics_path__="/a", __meta_docker_container_id="1")
    two = a("two", "y:1", __metrics_path__="/b", __meta_docker_container_id="2")
    assert [bool(each.target) for each in one_series_each([one, two])] == [True, False]


def test_a_decision_without_a_target_passes_as_it_is() -> None:
    without = replace(a("one", "x:1"), target=None, reason=Reason.CANDIDATE)
    assert list(one_series_each([without, without])) == [without, without]


def test_an_instance_without_the_port_has_room_for_one_port() -> None:
    shown = container(labels=labels(port="9395,9394"))
    found = decisions(shown, defaults={"instance": "{slot}"})
    assert [each.reason for each in found] == [Reason.CURRENT, Reason.DUPLICATE]
    # The first of the label, not the lowest.
    assert targets(found) == {"shop-web": "172.18.0.5:9395"}


def test_an_instance_with_the_ports_name_has_room_for_each() -> None:
    shown = container(labels=labels(port="a=9395,b=9394"))
    found = decisions(shown, defaults={"instance": "{slot}/{port_name}"})
    assert targets(found) == {"shop-web/a": "172.18.0.5:9395", "shop-web/b": "172.18.0.5:9394"}
