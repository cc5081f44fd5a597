"""A service that speaks as OpenAI's API does and has nothing to say: it repeats what it was told.

Usage: python3 llm_service.py [PORT]    (8000 unless given; 0 takes a free one)

It has the model `parrot`, streams a word at a time, and refuses the model `busy` with 429 and any other with 404. The
model `chatterbox` streams what it was told over and over until its listener goes, and says so on standard output.
"""

import itertools
import json
import sys
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODELS = ("parrot", "chatterbox")


class Parrot(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        models = [{"id": model, "object": "model", "owned_by": "nobody"} for model in MODELS]
        self.answer({"object": "list", "data": models})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = asked.get("model")
        if model == "busy":
            error = {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}
            self.answer({"error": error}, 429, {"Retry-After": "2", "X-RateLimit-Remaining-Requests": "0"})
        elif model not in MODELS:
            error = {"message": f"The model `{model}` does not exist", "code": "model_not_found"}
            self.answer({"error": error}, 404)
        elif self.path.endswith("/embeddings"):
            self.answer({"object": "list", "model": model, "data": [{"index": 0, "embedding": [0.25, -1.5]}]})
        else:
            self.complete(asked, model)

    def complete(self, asked: dict, model: str) -> None:
        said = asked["messages"][-1]["content"] if "messages" in asked else asked["prompt"]
        words = said.split()
        kept = words[: asked.get("max_tokens", len(words))]
        finish = "stop" if kept == words else "length"
        usage = {"prompt_tokens": len(words), "completion_tokens": len(kept), "total_tokens": len(words) + len(kept)}
        if asked.get("stream"):
            if model == "chatterbox":
                kept = itertools.cycle(words)
            wants_usage = asked.get("stream_options", {}).get("include_usage")
            try:
                self.stream(model, kept, finish, usage if wants_usage else None)
            except OSError:
                print(f"who said {said!r} has gone", flush=True)
                self.close_connection = True
        else:
            message = {"role": "assistant", "content": " ".join(kept)}
            choice = {"index": 0, "message": message, "text": " ".join(kept), "finish_reason": finish}
            self.answer({"id": "p-1", "model": model, "choices": [choice], "usage": usage})

    def stream(self, model: str, words: Iterable[str], finish: str, usage: dict | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Request-Id", "req-1")
        self.end_headers()
        for number, word in enumerate(words):
            content = word if number == 0 else f" {word}"
            self.event({"model": model, "choices": [{"index": 0, "delta": {"content": content}, "text": content}]})
        self.event({"model": model, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage:
            self.event({"model": model, "choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, said: dict) -> None:
        self.chunk(f"data: {json.dumps(said)}\n\n".encode())

    def chunk(self, part: bytes) -> None:
        self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")

    def answer(self, said: dict, status: int = 200, headers: dict | None = None) -> None:
        text = json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "X-Request-Id": "req-1", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        print(f"{self.command} {self.path}: {args[1]}", flush=True)


def main(port: str = "8000") -> None:
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Parrot)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
