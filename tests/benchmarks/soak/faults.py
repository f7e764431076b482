"""What goes wrong, one thing after the other, while all the rest goes on."""

import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

from tests.benchmarks.soak.rig import RESTARTED, Rig, Watched
from tests.lab.process import LabError, wait_until

PATIENCE: Final = 45.0
"""After so many seconds at most a kamal-sd hears the engine again: its longest wait is 30 s."""
_SUCCESSFUL: Final = "kamal_sd_config_last_reload_successful"
_SUCCESS_AT: Final = "kamal_sd_config_last_reload_success_timestamp_seconds"
# By then whoever says that the engine is heard has noticed that it was not.
_NOTICED: Final = 1.0
# Others than those that `Rig.configure` writes, all of them harmless.
_SETTINGS: Final[tuple[dict[str, object], ...]] = (
    {"keep_missing": "2h"},
    {"overlap_limit": "100s"},
    {"container_labels": ["role"]},
    {"resync_interval": "15s"},
    {"relay": {"timeout": "9s"}},
)


class Faults:
    """All kinds of faults in turn, in an order that the seed gives. `scale` makes them longer."""

    def __init__(self, rig: Rig, seed: str, scale: float) -> None:
        self._rig, self._scale = rig, scale
        self._random = random.Random(f"{seed} faults")  # noqa: S311 - to be had again
        self._restarted = next(each for each in rig.watched if each.name == RESTARTED)
        self.recoveries: list[float] = []
        """How many seconds after each fault the engine was heard again."""
        self.unheard = 0.0
        """For how many seconds the steady one was allowed to be behind."""
        self.kinds: dict[str, Callable[[], None]] = {
            "engine killed": self._engine_killed,
            "engine frozen": self._engine_frozen,
            "streams cut": self._cut,
            "proxy: 500": lambda: self._spoiled(self._rig.proxy.refusing("500 Server Error")),
            "proxy: 403": lambda: self._spoiled(self._rig.proxy.refusing("403 Forbidden")),
            "proxy gone": lambda: self._spoiled(self._rig.proxy.gone()),
            "proxy silent": lambda: self._spoiled(self._rig.proxy.silent()),
            "a list empty": lambda: self._listed(self._rig.proxy.empty_list),
            "a list torn": lambda: self._listed(self._rig.proxy.tear_lists),
            "settings changed": self._settings_changed,
            "settings broken": self._settings_broken,
            "kamal-sd stopped": lambda: self._ended(kill=False),
            "kamal-sd killed": lambda: self._ended(kill=True),
            "kamal-sd killed, and no engine": self._ended_without_engine,
        }

    def bag(self, kinds: Collection[str]) -> list[str]:
        """These kinds once, or all of them, in some order."""
        chosen = [each for each in self.kinds if not kinds or each in kinds]
        return self._random.sample(chosen, len(chosen))

    def strike(self, kind: str) -> None:
        """Have one happen, and be over."""
        try:
            self.kinds[kind]()
        except LabError as error:
            self._rig.findings.add("fault", f"{kind}: {error}")
        self._rig.findings.count(f"fault: {kind}")

    def rest(self, least: float, most: float) -> float:
        """Some seconds between two faults."""
        return self._random.uniform(least, most)

    # --- the engine, and the way to it ---

    def _engine_killed(self) -> None:
        with self._rig.engaged.taken(), self._unheard(*self._rig.watched):
            self._rig.engine.kill()
            self._sleep(1, 5)
            self._rig.engine.start()

    def _engine_frozen(self) -> None:
        with self._rig.engaged.taken(), self._unheard(*self._rig.watched):
            self._rig.engine.pause()
            try:
                self._sleep(2, 6)
            finally:
                self._rig.engine.resume()

    def _cut(self) -> None:
        with self._unheard(*self._rig.watched):
            for _ in range(self._random.randint(1, 4)):
                self._rig.proxy.cut()
                time.sleep(self._random.uniform(0, 0.3))

    def _spoiled(self, spoiling: AbstractContextManager[None]) -> None:
        with self._unheard(*self._rig.watched), spoiling:
            self._sleep(1, 6)

    def _listed(self, spoil: Callable[[], None]) -> None:
        with self._unheard(*self._rig.watched):
            spoil()
            wait_until(lambda: self._rig.proxy.is_done, PATIENCE, "the lists to be asked for")

    # --- kamal-sd ---

    def _settings_changed(self) -> None:
        since = {each: each.metric(_SUCCESS_AT) for each in self._rig.watched}
        self._rig.configure(**self._random.choice(_SETTINGS))
        for each, before in since.items():
            what = f"the {each.name} one to take other settings"
            wait_until(partial(_is_above, each, _SUCCESS_AT, before), 20, what)

    def _settings_broken(self) -> None:
        self._rig.write("overlap_limit: soon\n")
        for each in self._rig.watched:
            what = f"the {each.name} one to refuse broken settings"
            wait_until(partial(_is, each, _SUCCESSFUL, 0), 20, what)
        self._rig.configure()
        for each in self._rig.watched:
            what = f"the {each.name} one to take whole settings again"
            wait_until(partial(_is, each, _SUCCESSFUL, 1), 20, what)

    def _ended(self, *, kill: bool) -> None:
        with self._unheard(self._restarted), self._restarted.hearing.away.going_on():
            self._restarted.end(kill=kill)
            self._sleep(0, 2)
            self._restarted.start()

    def _ended_without_engine(self) -> None:
        """It answers from its snapshot before it hears anything."""
        with self._unheard(*self._rig.watched), self._rig.proxy.gone():
            with self._restarted.hearing.away.going_on():
                self._restarted.end(kill=True)
                self._restarted.start()
            self._sleep(1, 2)

    @contextmanager
    def _unheard(self, *watched: Watched) -> Iterator[None]:
        """What these answer may be old meanwhile, until each hears the engine again."""
        spans = [each.hearing.deaf.begin() for each in watched]
        try:
            yield
            over = time.time()
            time.sleep(_NOTICED)
            for each, span in zip(watched, spans, strict=True):
                what = f"the {each.name} one to hear the engine again"
                wait_until(each.hears, PATIENCE, what)
                span.ends = time.time()
                self.recoveries.append(span.ends - over)
                if each is not self._restarted:
                    self.unheard += span.ends - span.begins
        except LabError:
            for span in spans:
                span.ends = time.time()
            raise

    def _sleep(self, least: float, most: float) -> None:
        time.sleep(self._scale * self._random.uniform(least, most))


def _is(watched: Watched, metric: str, value: float) -> bool:
    return watched.metric(metric) == value


def _is_above(watched: Watched, metric: str, value: float) -> bool:
    return watched.metric(metric) > value
