"""An HTTP service that answers with what it was sent, and keeps its connections.

Usage: python3 http_echo.py [PORT]    (8080 unless given; 0 takes a free one)

The answer is JSON: method, path, body (its bytes as text), and requests, which counts those on this connection.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    requests = 0

    def answer(self) -> None:
        self.requests += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = {"method": self.command, "path": self.path, "body": body.decode(), "requests": self.requests}
        text = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        print(f"{self.command} {self.path}: {args[1]}", flush=True)


def main(port: str = "8080") -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Echo)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
