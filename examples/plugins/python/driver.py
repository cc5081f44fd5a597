"""A driver in Python, for a device that it only pretends: a press that prints texts and keeps a setting.

Usage: driver.py ADDRESS, such as 127.0.0.1:7000 or unix:/run/press.sock. It needs the stubs of sublet.plugin.v1.
"""

import json
import sys
import threading
import uuid
from concurrent import futures

import grpc
from sublet.plugin.v1 import driver_service_pb2 as pb
from sublet.plugin.v1 import driver_service_pb2_grpc as rpc

ABOUT = {"instance_id": str(uuid.uuid4())}
OPERATIONS = [
    pb.Operation(name="print", summary="Prints `text`.", stateless=True),
    pb.Operation(name="set", summary="Keeps `value` for the lease's next calls.", needs_lease=True),
    pb.Operation(name="get", summary="Tells the value."),
    pb.Operation(name="watch", summary="Tells the state until it is cancelled.", streaming=True, stateless=True),
]
EXAMPLES = [
    pb.Example(operation="print", params_json='{"text": "hello"}', purpose=pb.Example.PURPOSE_RUN),
    pb.Example(operation="watch", purpose=pb.Example.PURPOSE_SLOW),
    pb.Example(operation="set", params_json='{"value": 7}', purpose=pb.Example.PURPOSE_DIRTY),
    pb.Example(operation="get", purpose=pb.Example.PURPOSE_LOOK),
]


class Session:
    def __init__(self):
        self.value, self.cancelled = None, 0
        self.busy, self.stop = threading.Lock(), threading.Event()

    def begin(self, call, context):
        if call.call_id <= self.cancelled:  # Its Cancel was faster.
            context.abort(grpc.StatusCode.CANCELLED, "cancelled before it began")

    def cancel(self, call_id):
        self.cancelled = call_id
        self.stop.set()
        with self.busy:  # The call has ended.
            self.stop.clear()


class Driver(rpc.DriverServiceServicer):
    def __init__(self):
        self.sessions = {}

    def find(self, name, context):
        return self.sessions.get(name) or context.abort(grpc.StatusCode.NOT_FOUND, "no such session")

    def Describe(self, request, context):
        known = {"operations": OPERATIONS, "examples": EXAMPLES}
        return pb.DescribeResponse(protocol_version=1, driver="press", version="1.0", **known, **ABOUT)

    def Connect(self, request, context):
        if set(request.config) - {"tray"}:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "config: only `tray` is known")
        name = str(uuid.uuid4())
        self.sessions[name] = Session()  # Here a real driver connects to request.endpoint.
        return pb.ConnectResponse(session_id=name, **ABOUT)

    def Check(self, request, context):
        self.find(request.session_id, context)
        return pb.CheckResponse(**ABOUT)

    def Execute(self, request, context):
        call, params = request.call, json.loads(request.call.params_json)
        session = self.find(call.session_id, context)
        with session.busy:
            session.begin(call, context)
            if call.operation == "print":
                return answer({"printed": len(params["text"])})
            if call.operation == "set":
                session.value = params["value"]
            elif call.operation != "get":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"there is no {call.operation}")
            return answer(session.value)

    def ExecuteStream(self, requests, context):
        call, state = next(requests).call, 0
        session = self.find(call.session_id, context)
        with session.busy:
            session.begin(call, context)
            while not session.stop.wait(0.1):
                state += 1
                yield pb.ExecuteStreamResponse(json=json.dumps({"state": state}))
        yield pb.ExecuteStreamResponse(end=answer(None))

    def Cancel(self, request, context):
        self.find(request.session_id, context).cancel(request.call_id)
        return pb.CancelResponse()

    def Reset(self, request, context):
        self.find(request.session_id, context).value = None
        return pb.ResetResponse(outcome=pb.ResetResponse.OUTCOME_CLEAN, **ABOUT)

    def Disconnect(self, request, context):
        if session := self.sessions.pop(request.session_id, None):
            session.cancel(2**64 - 1)
        return pb.DisconnectResponse()


def answer(value):
    return pb.ExecuteResponse(answer=pb.Answer(json=json.dumps(value)), **ABOUT)


if __name__ == "__main__":
    # Each call needs a thread, and a Cancel beside it another.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
    rpc.add_DriverServiceServicer_to_server(Driver(), server)
    server.add_insecure_port(sys.argv[1])
    server.start()
    server.wait_for_termination()
