"""A driver in Python, for a device that it only pretends: a press that prints texts and keeps a setting.

Usage: press.py ADDRESS, such as 127.0.0.1:7000 or unix:/run/press.sock. It needs the stubs of sublet.plugin.v1.
"""

import sys
import threading

from driver import Refused, serve

ABOUT = {
    "driver": "press",
    "version": "1.0",
    "operations": [
        {"name": "print", "summary": "Prints `text`.", "stateless": True},
        {"name": "set", "summary": "Keeps `value` for the lease's next calls.", "needs_lease": True},
        {"name": "get", "summary": "Tells the value."},
        {"name": "watch", "summary": "Tells the state until it is cancelled.", "streaming": True, "stateless": True},
    ],
    "examples": [
        {"operation": "print", "params_json": '{"text": "hello"}', "purpose": "PURPOSE_RUN"},
        {"operation": "watch", "purpose": "PURPOSE_SLOW"},
        {"operation": "set", "params_json": '{"value": 7}', "purpose": "PURPOSE_DIRTY"},
        {"operation": "get", "purpose": "PURPOSE_LOOK"},
    ],
}


class Press:
    def __init__(self, request):
        if set(request.config) - {"tray"}:
            raise Refused("config: only `tray` is known")
        self.value = None  # Here a real one connects to request.endpoint.

    def execute(self, operation, params, rpc):
        if operation == "print":
            if not isinstance(params.get("text"), str):
                raise Refused("params.text: must be a text")
            return {"printed": len(params["text"])}
        if operation == "set":
            self.value = params.get("value")
        elif operation != "get":
            raise Refused(f"there is no {operation}")
        return self.value

    def stream(self, operation, params, inputs, rpc):
        state, stopped = 0, threading.Event()
        rpc.add_callback(stopped.set)
        while rpc.is_active() and not stopped.wait(0.1):
            state += 1
            yield {"state": state}

    def reset(self):
        self.value = None
        return True

    def close(self):
        pass


if __name__ == "__main__":
    serve(sys.argv[1], ABOUT, Press)
