"""A TCP service that keeps values for each connection, with a protocol of lines that end with CR LF.

Usage: python3 line_service.py [PORT]    (4001 unless given; 0 takes a free one)

It says `READY` to each connection. `SET NAME VALUE` answers `OK`, `GET NAME` the value or `NONE`, `PING` answers `PONG`,
`COUNT N` the lines 1 to N, `RESET` forgets the connection's values and answers `RESET DONE`, `QUIT` ends it.
"""

import socketserver
import sys


class Lines(socketserver.StreamRequestHandler):
    """One connection."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        values: dict[str, str] = {}
        self.say("READY")
        for line in self.rfile:
            match line.decode().rstrip("\r\n").split(" ", 2):
                case ["SET", name, value]:
                    values[name] = value
                    self.say("OK")
                case ["GET", name]:
                    self.say(values.get(name, "NONE"))
                case ["PING"]:
                    self.say("PONG")
                case ["COUNT", count]:
                    self.say(*map(str, range(1, int(count) + 1)))
                case ["RESET"]:
                    values.clear()
                    self.say("RESET DONE")
                case ["QUIT"]:
                    return
                case _:
                    self.say("ERROR unknown")

    def say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class Service(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True


def main(port: str = "4001") -> None:
    with Service(("127.0.0.1", int(port)), Lines) as service:
        print(f"listening on 127.0.0.1:{service.server_address[1]}", flush=True)
        service.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
