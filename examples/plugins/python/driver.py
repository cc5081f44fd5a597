"""What every driver needs: its sessions, one call at a time on each, and ends that are waited for. Copy it as it is.

A device is a class of yours, made of a ConnectRequest for each session. It has `execute(operation, params, rpc)`, which
returns what becomes JSON; `stream(operation, params, inputs, rpc)`, which yields that; `reset()`, which says whether
it is clean; and `close()`. What takes long stops when `rpc`, gRPC's context, is no longer active.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
from sublet.plugin.v1 import driver_service_pb2 as pb
from sublet.plugin.v1 import driver_service_pb2_grpc as rpc


class Refused(Exception):
    """A device does not do what it is asked, and has done nothing of it."""


class Session:
    def __init__(self):
        self.busy = threading.Lock()  # Held by its Connect, then by its call.
        self.last, self.device = 0, None


class Driver(rpc.DriverServiceServicer):
    def __init__(self, about, device):
        self.run = {"instance_id": str(uuid.uuid4())}
        self.about = pb.DescribeResponse(protocol_version=1, **about, **self.run)
        self.device, self.sessions = device, {}

    def find(self, name, context) -> Session:
        return self.sessions.get(name) or context.abort(grpc.StatusCode.NOT_FOUND, "no such session")

    @contextmanager
    def turn(self, call, context) -> Iterator:
        session = self.find(call.session_id, context)
        with session.busy:
            if call.call_id <= session.last:  # Its Cancel was faster.
                context.abort(grpc.StatusCode.CANCELLED, "cancelled before it began")
            session.last = call.call_id
            yield session.device

    def Describe(self, request, context):
        return self.about

    def Connect(self, request, context):
        session = Session()
        try:
            with session.busy:  # Before a Disconnect can find it: that one waits then.
                self.sessions[request.session_id] = session
                session.device = self.device(request)
        except Refused as why:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(why))
        finally:
            if session.device is None or not context.is_active():  # It failed, or has been given up.
                self.Disconnect(request, context)
        return pb.ConnectResponse(**self.run)

    def Check(self, request, context):
        self.find(request.session_id, context)
        return pb.CheckResponse(**self.run)

    def Execute(self, request, context):
        call = request.call
        with self.turn(call, context) as device:
            try:
                done = device.execute(call.operation, json.loads(call.params_json), context)
            except Refused as why:
                return self.refused(why)
            return pb.ExecuteResponse(answer=pb.Answer(json=json.dumps(done)), **self.run)

    def ExecuteStream(self, requests, context):
        call, inputs = next(requests).call, (request.input for request in requests)
        with self.turn(call, context) as device:
            try:
                for item in device.stream(call.operation, json.loads(call.params_json), inputs, context):
                    yield pb.ExecuteStreamResponse(json=json.dumps(item))
                end = pb.ExecuteResponse(answer=pb.Answer(), **self.run)
            except Refused as why:
                end = self.refused(why)
            yield pb.ExecuteStreamResponse(end=end)

    def refused(self, why):
        code, executed = grpc.StatusCode.INVALID_ARGUMENT.value[0], pb.EXECUTED_NO
        return pb.ExecuteResponse(error=pb.Error(message=str(why), grpc_code=code, executed=executed), **self.run)

    def Cancel(self, request, context):
        session = self.find(request.session_id, context)
        with session.busy:  # Its call has ended.
            session.last = max(session.last, request.call_id)
        return pb.CancelResponse()

    def Reset(self, request, context):
        clean = self.find(request.session_id, context).device.reset()
        outcome = pb.ResetResponse.OUTCOME_CLEAN if clean else pb.ResetResponse.OUTCOME_CLOSE
        return pb.ResetResponse(outcome=outcome, **self.run)

    def Disconnect(self, request, context):
        if session := self.sessions.pop(request.session_id, None):
            with session.busy:  # Its Connect or its call has ended.
                session.last = 2**64 - 1  # And none comes later.
                if session.device is not None:
                    session.device.close()
        return pb.DisconnectResponse()


def serve(address: str, about: dict, device: type) -> None:
    """Serves devices of a class, at `host:port` or `unix:/path`, for ever. `about` is Describe's answer."""
    # A thread for each call that runs, and others for what comes beside them.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
    rpc.add_DriverServiceServicer_to_server(Driver(about, device), server)
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()
