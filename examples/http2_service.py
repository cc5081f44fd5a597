"""An HTTP/2 service, spoken to in clear, that answers with what it was sent.

Usage: python3 http2_service.py [PORT]    (8081 unless given; 0 takes a free one)

Needs hypercorn, which python/requirements.txt has. GET /count counts to three, a line at a time. Every other answer is
JSON: method, path, body (its bytes as text), the version of HTTP, and the connection, by its number.
"""

import asyncio
import json
import socket
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

CONNECTIONS: dict[tuple[str, int], int] = {}


async def read(receive) -> bytes:
    """A request's body, whole."""
    parts = []
    while (event := await receive())["type"] == "http.request":
        parts.append(event.get("body", b""))
        if not event.get("more_body"):
            break
    return b"".join(parts)


async def say(send, kind: str, parts: list[bytes]) -> None:
    """An answer, in parts."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def service(scope, receive, send) -> None:
    """One request."""
    if scope["type"] != "http":
        return
    body = await read(receive)
    if scope["path"] == "/count":
        await say(send, "text/plain", [b"1\n", b"2\n", b"3\n"])
        return
    said = {
        "method": scope["method"],
        "path": scope["path"],
        "body": body.decode(),
        "version": scope["http_version"],
        "connection": CONNECTIONS.setdefault(scope["client"], len(CONNECTIONS) + 1),
    }
    await say(send, "application/json", [json.dumps(said).encode()])


def main(port: str = "8081") -> None:
    listener = socket.create_server(("127.0.0.1", int(port)))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.loglevel = "WARNING"
    asyncio.run(serve(service, config))


if __name__ == "__main__":
    main(*sys.argv[1:])
