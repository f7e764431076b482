"""Asking other kamal-sd's what they have decided, one thread a peer."""

import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import cache
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from app import __version__
from app.discovery import peer
from app.discovery.explain import ExplainDocument
from app.discovery.peer import PeerError
from app.model import Peer, Snapshot
from app.settings import PeerSettings
from app.storage import Storage

if TYPE_CHECKING:
    from app.peer_client import Client

log = logging.getLogger(__name__)


Publish = Callable[[str, tuple[Snapshot, ...]], None]


class PeerWatcher:
    """Keeps what is known of one peer's engines up to date.

    `before` is what was known at the last run. `publish` takes the peer's URL and snapshots, and
    raises ValueError where they do not go with the others'.
    """

    def __init__(
        self,
        settings: PeerSettings,
        before: tuple[Snapshot, ...],
        publish: Publish,
        storage: Storage | None = None,
    ) -> None:
        self._settings = settings
        self._snapshots = before
        self._heard_at = time.time()
        self._publish = publish
        self._storage = storage
        self._error = ""
        self._is_heard = False
        self._stopping = Flag()
        self._thread = Thread(target=self._run, name=f"peer {settings.url}", daemon=True)

    def start(self) -> None:
        """Asks from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the asking to end, and does not wait for it."""
        self._stopping.set()

    def join(self, timeout: float | None = None) -> None:
        """Waits for the end, for at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        with closing(_client(self._settings)) as client:
            while not self._stopping.is_set():
                try:
                    self._take(client.document())
                except (PeerError, ValueError) as error:
                    self._lost(str(error))
                except Exception as error:
                    # A thread that ends would leave the peer's targets stale, without a word.
                    log.exception("%s: asking it failed", self._settings.url)
                    self._lost(f"{type(error).__name__} in kamal-sd; its log has more")
                # Jittered, so that what asks many peers does not ask them all at once.
                self._stopping.wait(self._settings.interval * random.uniform(0.8, 1.0))  # noqa: S311

    def _take(self, answer: bytes) -> None:
        url, now = self._settings.url, time.time()
        snapshots = peer.snapshots(
            _read(answer), url, self._snapshots, now, is_relay=self._settings.relay
        )
        self._publish(url, snapshots)
        if not self._is_heard:
            log.info("%s: answers, with %s", url, ", ".join(each.host for each in snapshots))
        is_news = _decided(snapshots) != _decided(self._snapshots)
        self._snapshots, self._heard_at, self._error, self._is_heard = snapshots, now, "", True
        if self._storage and is_news:
            self._storage.save_peer(url, answer)

    def _lost(self, error: str) -> None:
        if error != self._error:
            log.warning("%s: not heard: %s", self._settings.url, error)
        self._error, self._is_heard = error, False
        self._snapshots = peer.lost(self._snapshots, error, self._heard_at)
        try:
            self._publish(self._settings.url, self._snapshots)
        except ValueError:
            # What was known of it does not go with an engine that is watched from here by now.
            self._snapshots = (peer.unheard(self._settings.url, error),)
            self._publish(self._settings.url, self._snapshots)


def look(settings: PeerSettings) -> tuple[Snapshot, ...]:
    """What a peer says now. Raises PeerError, and ValueError where it cannot be used."""
    with closing(_client(settings)) as client:
        document = _read(client.document())
    return peer.snapshots(document, settings.url, (), time.time(), is_relay=settings.relay)


def remembered(settings: PeerSettings, storage: Storage | None) -> tuple[Snapshot, ...]:
    """What is known of a peer from the last run."""
    answer = storage.load_peer(settings.url) if storage else None
    if answer is not None:
        try:
            document = _read(answer)
            then = document["time"]
            found = peer.snapshots(document, settings.url, (), then, is_relay=settings.relay)
        except (PeerError, ValueError) as error:
            log.warning("%s: what it said last is not used: %s", settings.url, error)
        else:
            return peer.lost(found, "not reached since kamal-sd started", then)
    return (peer.unheard(settings.url),)


def _client(settings: PeerSettings) -> "Client":
    # httpcore is a MB and 15 ms, which those who have no peer are spared.
    from app.peer_client import Client  # noqa: PLC0415

    return Client(settings)


def _decided(snapshots: Iterable[Snapshot]) -> list[Peer | None]:
    return [each.peer for each in snapshots]


@cache
def _documents() -> TypeAdapter[ExplainDocument]:
    return TypeAdapter(ExplainDocument)


def _read(answer: bytes) -> ExplainDocument:
    """The document of a peer. Raises PeerError."""
    try:
        return _documents().validate_json(answer)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise PeerError(
            f"it answers, but not as a kamal-sd {__version__} does"
            + (f" ({place})" if place else "")
            + "; write the address of its server, and let both be of one version"
        ) from None
