"""Programs of the lab: each with a log of its own, and none outliving it."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

# Debian's places only: what else a machine carries in its PATH is not what the lab means to test.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"


class LabError(Exception):
    """A real part did not do what was asked; the message says which, and what to do."""


def system_environment(**extra: str) -> dict[str, str]:
    """Return an environment that does not depend on whoever started the lab."""
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "TZ": "UTC"} | extra


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Look every 50 ms until the condition holds; `what` completes "waited 5 s for ..."."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"waited {timeout:g} s for {what}")
        time.sleep(0.05)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    data: bytes | None = None,
    timeout: float = 120,
) -> str:
    """Run a program to its end and return what it printed; its errors become a LabError."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env=system_environment() if env is None else dict(env),
            cwd=cwd,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(words)}` did not end within {timeout:g} s") from None
    except OSError as error:
        raise LabError(f"`{words[0]}` cannot be run: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise LabError(f"`{' '.join(words)}` ended with {done.returncode}: {said[-2000:]}")
    return done.stdout.decode(errors="replace")


class Process:
    """A program that runs until it is stopped.

    The kernel ends it when the thread that started it ends, so start it from one that stays.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            # A session of its own keeps the terminal's Ctrl-C from it: the lab ends it in order.
            self._popen = subprocess.Popen(
                ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)],
                env=system_environment() if env is None else dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def tail(self, size: int = 2000) -> str:
        """Return the end of the log, for messages."""
        return self.log.read_text(errors="replace")[-size:].strip()

    def wait_ready(self, ready: Callable[[], object], timeout: float = 20) -> None:
        """Wait for the condition; a program that ends or never gets there is stopped and said."""

        def ready_or_ended() -> bool:
            return not self.running or bool(ready())

        try:
            wait_until(ready_or_ended, timeout, f"{self.name} to be ready")
        except LabError as error:
            self.stop()
            raise LabError(f"{error}; its log {self.log} ends:\n{self.tail()}") from None
        if not self.running:
            raise LabError(
                f"{self.name} ended with {self._popen.returncode} instead of getting ready; "
                f"its log {self.log} ends:\n{self.tail()}"
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        self._popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {timeout:g} s") from None

    def kill(self) -> int:
        """End it at once and return its exit code."""
        self._popen.kill()
        return self._popen.wait()

    def stop(self, timeout: float = 10) -> int:
        """Ask it to end, insist after the timeout, and return its exit code."""
        self._popen.terminate()
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def orderly_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C, so that every `with` ends what it began."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def is_root() -> bool:
    return os.geteuid() == 0
