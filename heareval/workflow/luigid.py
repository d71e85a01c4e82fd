"""A luigid, reached over HTTP: one connection is kept, and no answer is waited for without end."""

from __future__ import annotations

import http.client
import logging
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import luigi.rpc

logger = logging.getLogger("luigi-interface")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class KeptConnection:
    """A connection to luigid, made when it is first used; it takes a quarter of the CPU of Luigi's own.

    Args:
        url: `http://host:port`.
        timeout_s: how long to wait for a connection, and for an answer.
    """

    raises = (OSError, http.client.HTTPException)

    def __init__(self, url: str, timeout_s: float) -> None:
        self.host, self.timeout_s = urlsplit(url).netloc, timeout_s
        self.connection = self._connect()
        self.process = os.getpid()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=self.timeout_s)

    def fetch(self, full_url: str, body: Mapping[str, str], _: float) -> str:
        """Return the answer to a form that is posted.

        Raises:
            OSError, http.client.HTTPException: there is none.
        """
        if self.process != os.getpid():
            # That of the parent stays open there.
            self.connection, self.process = self._connect(), os.getpid()
        try:
            self.connection.request("POST", urlsplit(full_url).path, urlencode(body), FORM)
            answer = self.connection.getresponse()
            text = answer.read().decode()
        except self.raises:
            self.close()
            raise
        if answer.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"{answer.status} {answer.reason}")
        return text

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        self.connection.close()


class Luigid(luigi.rpc.RemoteScheduler):  # type: ignore[misc]
    """A luigid, asked again for about a minute if it does not answer.

    Args:
        url: its address.

    Attributes:
        was_away: whether a request had no answer, so that it may be another one that answers now.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.was_away = False
        self.patience_s = self._rpc_retry_attempts * self._rpc_retry_wait
        # Pings come from a thread of their own, and the next one comes in a moment.
        self.pinged = luigi.rpc.RemoteScheduler(url)
        self.pinged._rpc_retry_attempts = 1
        self.pinged._rpc_log_retries = False
        parts = urlsplit(url)
        has_proxy = "http" in getproxies() and not proxy_bypass(parts.netloc)
        # Luigi's own way to luigid knows proxies, passwords, TLS and sockets.
        if parts.scheme == "http" and "@" not in parts.netloc and not has_proxy:
            self._fetcher = KeptConnection(self._url, self._connect_timeout)

    @property
    def retry_wait_s(self) -> float:
        """How long it waits before it asks again."""
        return float(self._rpc_retry_wait)

    def ping(self, **words: Any) -> Any:
        """Tell luigid that a worker lives."""
        return self.pinged.ping(**words)

    def close(self) -> None:
        """Close the connections."""
        self.pinged.close()
        super().close()

    def _fetch(self, url_suffix: str, body: Mapping[str, str]) -> Any:
        """Return the answer to a request.

        Luigi counts tries, of which each takes much longer if a whole machine is gone.
        """
        started = time.monotonic()
        while True:
            try:
                return _check_answer(self._fetcher.fetch(self._url + url_suffix, body, self._connect_timeout))
            except self._fetcher.raises as error:
                self.was_away = True
                waited = time.monotonic() - started
                logger.warning("luigid does not answer %s, %.0f s: %s", url_suffix, waited, error)
                if waited + self._rpc_retry_wait > self.patience_s:
                    raise luigi.rpc.RPCError(f"no answer for {waited:.0f} s", error) from error
                time.sleep(self._rpc_retry_wait)


def _check_answer(text: str) -> str:
    """Return an answer of luigid; raise RPCError if another program gave it.

    >>> _check_answer('{"response": null}')
    '{"response": null}'
    """
    if not text.startswith("{"):
        raise luigi.rpc.RPCError("the answer of another program")
    return text
