"""A TCP proxy on loopback whose connections can be cut."""

import contextlib
import socket
import struct
import threading
from typing import Self


class CuttingProxy:
    """Passes bytes on to `target` until it is told to cut; connections made after that are passed on again."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._guard = threading.Lock()
        self._muted = threading.Event()
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def mute(self) -> None:
        """Swallows what the target answers on the connections that are open, from now on."""
        self._muted.set()

    def cut(self) -> None:
        """Breaks every open connection, on both sides."""
        with self._guard:
            broken, self._open = self._open, []
        for end in broken:
            # Its thread may have closed it already.
            with contextlib.suppress(OSError):
                # A reset, not an orderly close: what a crashed box in the middle looks like.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
        self._muted.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = socket.create_connection(self._target)
            with self._guard:
                self.connections += 1
                self._open += [client, target]
            threading.Thread(target=self._pass_on, args=(client, target, None), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(target, client, self._muted), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, muted: threading.Event | None) -> None:
        try:
            while chunk := source.recv(65536):
                if muted is None or not muted.is_set():
                    sink.sendall(chunk)
        except OSError:
            pass
        finally:
            source.close()
            sink.close()
