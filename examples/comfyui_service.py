"""A box that speaks as ComfyUI does and paints nothing: enough of it to try the broker's kind `comfyui` without one.

Usage: python3 comfyui_service.py [PORT...]    (8188 unless given; 0 takes a free one)

It has the nodes EmptyImage, LoadImage, SaveImage, PreviewImage, and KSampler, whose `steps` take 20 ms each and show
previews. Prompts run one at a time; an interrupt is noticed at once. One route is its own: GET /stats has the most
prompts that were in its queue at once, the running one counted, since that was asked last.
"""

import base64
import email
import email.policy
import hashlib
import json
import struct
import sys
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
OUTPUTS = {"SaveImage": "output", "PreviewImage": "temp"}
NODES = {"EmptyImage", "LoadImage", "KSampler", *OUTPUTS}


class Box:
    """One box: a queue, a history, files, and sockets that are told what happens."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.pending: list[tuple] = []
        self.running: tuple | None = None
        self.interrupted = False
        self.history: dict[str, dict] = {}
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.sockets: dict[str, "Request"] = {}
        self.count = 0
        self.most = 0
        threading.Thread(target=self.work, daemon=True).start()

    def tell(self, client: str | None, kind: str, data: dict) -> None:
        self.send(client, 1, json.dumps({"type": kind, "data": data}).encode())

    def send(self, client: str | None, kind: int, message: bytes) -> None:
        for name, socket in list(self.sockets.items()):
            if client in (None, name):
                socket.frame(kind, message)

    def remaining(self) -> int:
        return len(self.pending) + (self.running is not None)

    def status(self) -> dict:
        return {"status": {"exec_info": {"queue_remaining": self.remaining()}}}

    def work(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.pending)
                self.pending.sort(key=lambda item: item[0])
                self.running, self.interrupted = self.pending.pop(0), False
            self.run(*self.running)

    def run(self, number: float, prompt_id: str, nodes: dict, extra: dict, targets: list) -> None:
        messages, outputs, stopped = [], {}, False

        def tell(kind: str, **about: object) -> None:
            about["prompt_id"] = prompt_id
            if kind.startswith("execution_"):
                about["timestamp"] = milliseconds()
                messages.append([kind, about])
            self.tell(extra.get("client_id"), kind, about)

        tell("execution_start")
        tell("execution_cached", nodes=[])
        for node in sorted(nodes, key=lambda node: nodes[node]["class_type"] in OUTPUTS):
            kind, inputs = nodes[node]["class_type"], nodes[node]["inputs"]
            tell("executing", node=node, display_node=node)
            if kind == "KSampler":
                self.sample(tell, extra.get("client_id"), prompt_id, node, inputs)
            if stopped := self.interrupted:
                tell("execution_interrupted", node_id=node, node_type=kind, executed=[])
                break
            if folder := OUTPUTS.get(kind):
                outputs[node] = self.save(folder, inputs.get("filename_prefix", "ComfyUI"))
                tell("executed", node=node, display_node=node, output=outputs[node])
        if not stopped:
            tell("execution_success")
        status = {"status_str": "error" if stopped else "success", "completed": not stopped, "messages": messages}
        prompt = [number, prompt_id, nodes, extra, targets]
        with self.changed:
            self.history[prompt_id] = {"prompt": prompt, "outputs": outputs, "status": status, "meta": {}}
            self.running = None
        self.tell(None, "status", self.status())
        tell("executing", node=None)

    def save(self, folder: str, prefix: str) -> dict:
        count = sum(name.startswith(f"{prefix}_") for _, _, name in self.files) + 1
        name = f"{prefix}_{count:05}_.png"
        self.files[folder, "", name] = PNG
        return {"images": [{"filename": name, "subfolder": "", "type": folder}]}

    def sample(self, tell, client: str, prompt_id: str, node: str, inputs: dict) -> None:
        steps = inputs.get("steps", 20)
        about = json.dumps({"node_id": node, "prompt_id": prompt_id, "image_type": "image/png"}).encode()
        for step in range(1, steps + 1):
            with self.changed:
                if self.changed.wait_for(lambda: self.interrupted, timeout=0.02):
                    return
            tell("progress", value=step, max=steps, node=node)
            self.send(client, 2, struct.pack(">II", 4, len(about)) + about + PNG)

    def submit(self, asked: dict) -> tuple[int, dict]:
        nodes = asked.get("prompt")
        if nodes is None:
            return refused("no_prompt", "No prompt provided")
        for node, about in nodes.items():
            if about["class_type"] not in NODES:
                extra = {"node_id": node, "class_type": about["class_type"]}
                return refused("missing_node_type", f"Node '{about['class_type']}' not found.", extra)
        outputs = [node for node, about in nodes.items() if about["class_type"] in OUTPUTS]
        if not outputs:
            return refused("prompt_no_outputs", "Prompt has no outputs")
        wrong = {
            node: {"errors": [missing("image")], "dependent_outputs": outputs, "class_type": "LoadImage"}
            for node, about in nodes.items()
            if about["class_type"] == "LoadImage" and not self.has(about["inputs"]["image"])
        }
        if wrong:
            return refused("prompt_outputs_failed_validation", "Prompt outputs failed validation", nodes=wrong)
        prompt_id = asked.get("prompt_id") or str(uuid.uuid4())
        with self.changed:
            self.count += 1
            number = asked.get("number", self.count)
            extra = asked.get("extra_data", {}) | {"client_id": asked.get("client_id"), "create_time": milliseconds()}
            self.pending.append((number, prompt_id, nodes, extra, outputs))
            self.most = max(self.most, self.remaining())
            self.changed.notify_all()
        self.tell(None, "status", self.status())
        return 200, {"prompt_id": prompt_id, "number": number, "node_errors": {}}

    def most_at_once(self) -> int:
        with self.changed:
            most, self.most = self.most, self.remaining()
        return most

    def has(self, image: str) -> bool:
        folder, _, name = image.rpartition("/")
        return ("input", folder, name) in self.files


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def refused(kind: str, message: str, extra: dict | None = None, nodes: dict | None = None) -> tuple[int, dict]:
    error = {"type": kind, "message": message, "details": "", "extra_info": extra or {}}
    return 400, {"error": error, "node_errors": nodes or {}}


def missing(name: str) -> dict:
    return {
        "type": "custom_validation_failed", "message": "Custom validation failed for node",
        "details": f"{name} - Invalid image file", "extra_info": {"input_name": name},
    }


class Request(BaseHTTPRequestHandler):
    """One connection, or one socket."""

    protocol_version = "HTTP/1.1"
    box: Box

    def do_GET(self) -> None:
        path, _, query = self.path.removeprefix("/api").partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        box = self.box
        if path == "/ws":
            self.listen(asked["clientId"])
        elif path == "/prompt":
            self.answer(200, {"exec_info": {"queue_remaining": box.remaining()}})
        elif path == "/queue":
            with box.changed:
                running = [box.running] if box.running else []
                self.answer(200, {"queue_running": running, "queue_pending": box.pending})
        elif path.startswith("/history/"):
            with box.changed:
                found = box.history.get(path.removeprefix("/history/"))
            self.answer(200, {path.removeprefix("/history/"): found} if found else {})
        elif path == "/view":
            found = box.files.get((asked.get("type", "output"), asked.get("subfolder", ""), asked["filename"]))
            self.send(200 if found else 404, "image/png", found or b"")
        elif path == "/system_stats":
            self.answer(200, {"system": {"comfyui_version": "0.24.0"}, "devices": [{"name": "none", "type": "cpu"}]})
        elif path == "/stats":
            self.answer(200, {"most_at_once": box.most_at_once()})
        elif path == "/object_info/SaveImage":
            self.answer(200, {"SaveImage": {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True}})
        else:
            self.send(404, "text/plain", b"404: Not Found")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, box = self.path, self.box
        if path == "/upload/image":
            self.answer(200, self.keep(body))
        elif path == "/prompt":
            self.answer(*box.submit(json.loads(body)))
        elif path == "/queue":
            gone = json.loads(body)["delete"]
            with box.changed:
                box.pending = [item for item in box.pending if item[1] not in gone]
            self.send(200, "text/plain", b"")
        elif path == "/interrupt":
            with box.changed:
                box.interrupted = bool(box.running) and box.running[1] == json.loads(body)["prompt_id"]
                box.changed.notify_all()
            self.send(200, "text/plain", b"")
        elif path == "/free":
            self.send(200, "text/plain", b"")
        else:
            self.send(405, "text/plain", b"405: Method Not Allowed")

    def keep(self, body: bytes) -> dict:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        fields = {name: part.get_payload(decode=True) for name, part in parts.items()}
        name, folder = parts["image"].get_filename(), fields["subfolder"].decode()
        kind = fields["type"].decode()
        self.box.files[kind, folder, name] = fields["image"]
        return {"name": name, "subfolder": folder, "type": kind}

    def listen(self, client: str) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.writing = threading.Lock()
        self.close_connection = True
        self.box.sockets[client] = self
        self.box.tell(client, "status", self.box.status() | {"sid": client})
        # What the client says is only that it understands previews, and that it goes.
        while self.rfile.read(1):
            pass
        del self.box.sockets[client]

    def frame(self, kind: int, message: bytes) -> None:
        size = len(message)
        head = struct.pack(">BB", 0x80 | kind, size) if size < 126 else struct.pack(">BBH", 0x80 | kind, 126, size)
        with self.writing:
            try:
                self.wfile.write(head + message)
            except OSError:
                pass

    def answer(self, status: int, value: object) -> None:
        self.send(status, "application/json; charset=utf-8", json.dumps(value).encode())

    def send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client may go in the middle; there is nobody to be told."""


def main() -> None:
    servers = []
    for port in map(int, sys.argv[1:] or ["8188"]):
        handler = type("BoxRequest", (Request,), {"box": Box()})
        server = Server(("127.0.0.1", port), handler)
        print("listening on", f"127.0.0.1:{server.server_address[1]}", flush=True)
        servers.append(server)
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
