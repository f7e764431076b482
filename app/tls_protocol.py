"""HTTP/1.1 over TLS, with the bounds of `protocol` from the first byte of the greeting on."""

import asyncio
import ssl
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.protocol import Protocol

# asyncio would keep half a megabyte for each.
_WRITE_BYTES = 128 * 1024


class TlsProtocol(Protocol):
    """One connection over TLS. Its greeting is a part of the first request, and counts as such.

    asyncio's own servers tell nobody of a connection before the greeting is over, for which they
    wait a minute.
    """

    _is_greeted = False
    _early = b""

    @property
    @abstractmethod
    def context(self) -> ssl.SSLContext:
        """What a connection begins with."""

    @abstractmethod
    def is_welcome(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a client may stay. The certificate is as ssl.SSLSocket.getpeercert has it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # What comes now is no HTTP.
        transport.pause_reading()
        self._greeting = self.loop.create_task(self._greet(transport))

    async def _greet(self, transport: asyncio.Transport) -> None:
        try:
            tls = await self.loop.start_tls(
                transport,
                self,
                self.context,
                server_side=True,
                ssl_shutdown_timeout=self.limits.receive,
            )
        except OSError:
            tls = None
        if tls is None:
            # asyncio does not always tell of an end before the beginning.
            self.connection_lost(None)
            return
        HttpToolsProtocol.connection_made(self, tls)
        tls.set_write_buffer_limits(_WRITE_BYTES)
        if not self.is_welcome(tls.get_extra_info("peercert") or {}):
            self.let_go()
            return
        self._is_greeted = True
        if self._early:
            self.data_received(self._early)

    def data_received(self, data: bytes) -> None:
        if self._is_greeted:
            super().data_received(data)
        else:
            # It came along with the end of the greeting.
            self._early += data
