"""Watching one engine for ever: subscribe, keep a session, reconnect.

Two threads an engine. One reads the event stream and does nothing else, so that a burst is taken in
while the other asks the engine; the other then heeds at once all that has come.
"""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Event as Flag
from threading import Thread

from app.engine import ledger
from app.engine.client import Connection, EngineError, EventStream, StreamSilentError
from app.engine.inspection import Inspects
from app.engine.parse import Readable
from app.engine.session import End, Inbox, Pace, Session
from app.model import Snapshot

log = logging.getLogger(__name__)


class Watcher:
    """Keeps the snapshot of one engine true, and publishes it whenever it changes.

    `before` is what was known at the last run. `connect` is called anew at each try, and raises
    EngineError where the engine cannot be reached. `publish` takes a snapshot, and gives it back
    as it shall be remembered.
    """

    def __init__(
        self,
        before: Snapshot,
        connect: Callable[[], Connection],
        publish: Callable[[Snapshot], Snapshot],
        readable: Readable,
        inspects: Inspects,
        pace: Pace | None = None,
    ) -> None:
        self._snapshot = before
        self._heard_at = time.time()
        # Since when this session has gone well, on the monotonic clock.
        self._well_since = math.inf
        self._connect = connect
        self._publish = publish
        self._readable = readable
        self._inspects = inspects
        self._pace = pace or Pace()
        self._stopping = Flag()
        self._inbox = Inbox()
        self._name = before.host or "engine"
        self._thread = Thread(target=self.run, name=f"watch {self._name}", daemon=True)

    def start(self) -> None:
        """Watches in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the watching to end, and does not wait for it."""
        self._stopping.set()
        self._inbox.put(End())

    def join(self, timeout: float) -> None:
        """Waits for the end, after which the connection is closed: as a rule at once, but for at
        most `timeout` seconds where the engine hangs in the middle of an answer.
        """
        self._thread.join(timeout)

    def run(self) -> None:
        """Watches in this thread, until another one calls `stop`."""
        delay = self._pace.first_delay
        while not self._stopping.is_set():
            self._well_since = math.inf
            try:
                if error := self._try():
                    self._lost(error)
            except Exception:
                # A watcher that ends would leave its targets stale for ever, without a word.
                log.exception("%s: the watcher failed", self._name)
            if time.monotonic() - self._well_since >= self._pace.good_run:
                delay = self._pace.first_delay
            # Jittered, so that many kamal-sd's do not knock at once at an engine that is back.
            self._stopping.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            delay = min(2 * delay, self._pace.longest_delay)

    def _try(self) -> str:
        """One session; why the engine was lost, empty where it was not."""
        try:
            self._session()
        except StreamSilentError as error:
            log.debug("%s: renewing the event stream: %s", self._name, error)
        except EngineError as error:
            return str(error)
        except Exception as error:
            log.exception("%s: the watcher failed", self._name)
            return _bug(error)
        return ""

    def _session(self) -> None:
        self._inbox = Inbox()
        if self._stopping.is_set():
            return
        with closing(self._connect()) as connection, self._subscribed(connection):
            session = Session(
                self._snapshot,
                connection,
                self._inbox,
                publish=self._published,
                readable=self._readable,
                inspects=self._inspects,
                pace=self._pace,
            )
            session.run()

    @contextmanager
    def _subscribed(self, connection: Connection) -> Iterator[None]:
        """Has the events put into the inbox by a thread, which is gone afterwards."""
        stream = connection.events()
        reader = Thread(
            target=_read, args=(stream, self._inbox), name=f"events {self._name}", daemon=True
        )
        reader.start()
        try:
            yield
        finally:
            stream.close()
            reader.join()

    def _published(self, snapshot: Snapshot) -> Snapshot:
        if snapshot.up and not self._snapshot.up:
            log.info("%s: listening, %d containers", self._name, len(snapshot.containers))
        if snapshot.up:
            self._well_since = min(self._well_since, time.monotonic())
        self._heard_at = time.time()
        self._snapshot = self._publish(snapshot)
        return self._snapshot

    def _lost(self, error: str) -> None:
        if error != self._snapshot.error:
            log.warning("%s: not heard: %s", self._name, error)
        lost = ledger.lost(self._snapshot, error, self._heard_at)
        self._snapshot = self._publish(replace(lost, reconnects=lost.reconnects + 1))


def _read(stream: EventStream, inbox: Inbox) -> None:
    try:
        for event in stream:
            inbox.put(event)
        inbox.put(End(EngineError("the event stream ended")))
    except EngineError as error:
        inbox.put(End(error))
    except Exception as error:
        # A reader that ends without a word would leave the session deaf.
        log.exception("the event stream failed")
        inbox.put(End(EngineError(_bug(error))))


def _bug(error: Exception) -> str:
    return f"{type(error).__name__} in kamal-sd; its log has more"
