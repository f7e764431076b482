"""Passwords against bcrypt's hashes, which take long on purpose: never a way to hold others up."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Mapping

# What is being checked, and waits for it: of one address, and of all.
_MOST_OF_ONE = 4
_MOST_OF_ALL = 64
_MOST_VERIFIED = 1000
# bcrypt reads no more; its Python module refuses what others cut.
_MOST_BYTES = 72


class BusyError(Exception):
    """Too much is being checked already."""


class Passwords:
    """Checks one at a time, beside the event loop, and remembers what was right.

    Neither a password nor anything that it can be guessed from is kept: what is remembered is a
    hash with a key that nobody else has. When the server is `ending`, nobody waits any more.
    """

    def __init__(self, ending: asyncio.Event) -> None:
        self._ending = ending
        self._key = secrets.token_bytes(32)
        self._one_at_a_time = asyncio.Lock()
        self._verified: set[bytes] = set()
        self._checks: dict[bytes, asyncio.Task[bool]] = {}
        self._clients = Counter[str]()

    async def are_right(
        self, hashes: Mapping[bytes, bytes], name: bytes, password: bytes, client: str
    ) -> bool:
        """Whether it is the user's password, by the users' hashes. Raises BusyError.

        A name that is none costs the same work. `client` is the address that asks.
        """
        known = hashes.get(name)
        wanted = known or self._any_of(hashes, name)
        seal = self._seal(wanted, name, password)
        if seal in self._verified:
            return known is not None
        # The same credentials, asked for at once, are one check.
        check = self._checks.get(seal) or self._begin(seal, wanted, password, client)
        end = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((check, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
        if self._ending.is_set() and not check.done():
            raise BusyError
        is_right = await asyncio.shield(check)
        if is_right and known:
            if len(self._verified) >= _MOST_VERIFIED:
                self._verified.clear()
            self._verified.add(seal)
        return is_right and known is not None

    def _begin(
        self, seal: bytes, wanted: bytes, password: bytes, client: str
    ) -> asyncio.Task[bool]:
        if self._clients[client] >= _MOST_OF_ONE or len(self._checks) >= _MOST_OF_ALL:
            raise BusyError
        self._clients[client] += 1
        check = asyncio.create_task(self._check(wanted, password))
        self._checks[seal] = check

        def end(_: asyncio.Task[bool]) -> None:
            del self._checks[seal]
            self._clients -= Counter([client])

        check.add_done_callback(end)
        return check

    async def _check(self, wanted: bytes, password: bytes) -> bool:
        async with self._one_at_a_time:
            return await asyncio.to_thread(_is_of, password[:_MOST_BYTES], wanted)

    def _any_of(self, hashes: Mapping[bytes, bytes], name: bytes) -> bytes:
        """The same one for a name each time: so its cost does not tell that there is none."""
        number = int.from_bytes(self._seal(name))
        return list(hashes.values())[number % len(hashes)]

    def _seal(self, *parts: bytes) -> bytes:
        hashed = hashlib.blake2b(key=self._key, digest_size=32)
        for each in parts:
            hashed.update(len(each).to_bytes(8))
            hashed.update(each)
        return hashed.digest()


def _is_of(password: bytes, hashed: bytes) -> bool:
    # It is 0.4 MB, which those who have no passwords are spared.
    import bcrypt  # noqa: PLC0415

    return bcrypt.checkpw(password, hashed)
