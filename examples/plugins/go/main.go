// A driver in Go, for a device that it only pretends: a press that prints texts and keeps a setting.
//
// Usage: driver ADDRESS, such as 127.0.0.1:7000 or unix:/run/press.sock. `generate` makes the stubs.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	pb "example.com/press/pluginv1"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var instance = uuid.NewString()

var described = &pb.DescribeResponse{
	ProtocolVersion: 1, InstanceId: instance, Driver: "press", Version: "1.0",
	Operations: []*pb.Operation{
		{Name: "print", Summary: "Prints `text`.", Stateless: true},
		{Name: "set", Summary: "Keeps `value` for the lease's next calls.", NeedsLease: true},
		{Name: "get", Summary: "Tells the value."},
		{Name: "watch", Summary: "Tells the state until it is cancelled.", Streaming: true, Stateless: true},
	},
	Examples: []*pb.Example{
		{Operation: "print", ParamsJson: `{"text": "hello"}`, Purpose: pb.Example_PURPOSE_RUN},
		{Operation: "watch", Purpose: pb.Example_PURPOSE_SLOW},
		{Operation: "set", ParamsJson: `{"value": 7}`, Purpose: pb.Example_PURPOSE_DIRTY},
		{Operation: "get", Purpose: pb.Example_PURPOSE_LOOK},
	},
}

// session is what one holder of the device leaves behind, and the call that runs.
type session struct {
	busy      sync.Mutex // Held by the call.
	value     json.RawMessage
	mutex     sync.Mutex // For what follows.
	cancelled uint64
	stop      context.CancelFunc
}

// begin waits for its turn, and gives a call a context that Cancel ends, and what to call at its end.
func (s *session) begin(ctx context.Context, number uint64) (context.Context, func(), error) {
	s.busy.Lock()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if number <= s.cancelled { // Its Cancel was faster.
		s.busy.Unlock()
		return nil, nil, status.Error(codes.Canceled, "cancelled before it began")
	}
	ctx, s.stop = context.WithCancel(ctx)
	return ctx, s.busy.Unlock, nil
}

// cancel stops the call and waits for its end.
func (s *session) cancel(number uint64) {
	s.mutex.Lock()
	s.cancelled = max(s.cancelled, number)
	if s.stop != nil {
		s.stop()
	}
	s.mutex.Unlock()
	s.busy.Lock()
	s.busy.Unlock()
}

type driver struct {
	pb.UnimplementedDriverServiceServer
	sessions sync.Map
}

func (d *driver) find(name string) (*session, error) {
	if found, ok := d.sessions.Load(name); ok {
		return found.(*session), nil
	}
	return nil, status.Error(codes.NotFound, "no such session")
}

func (d *driver) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return described, nil
}

func (d *driver) Connect(_ context.Context, r *pb.ConnectRequest) (*pb.ConnectResponse, error) {
	for name := range r.GetConfig().GetFields() {
		if name != "tray" {
			return nil, status.Error(codes.InvalidArgument, "config: only `tray` is known")
		}
	}
	name := uuid.NewString()
	d.sessions.Store(name, &session{value: json.RawMessage("null")}) // Here a real driver connects to r.Endpoint.
	return &pb.ConnectResponse{InstanceId: instance, SessionId: name}, nil
}

func (d *driver) Check(_ context.Context, r *pb.CheckRequest) (*pb.CheckResponse, error) {
	_, err := d.find(r.SessionId)
	return &pb.CheckResponse{InstanceId: instance}, err
}

func (d *driver) Execute(ctx context.Context, r *pb.ExecuteRequest) (*pb.ExecuteResponse, error) {
	s, err := d.find(r.Call.SessionId)
	if err != nil {
		return nil, err
	}
	_, end, err := s.begin(ctx, r.Call.CallId)
	if err != nil {
		return nil, err
	}
	defer end()
	var params struct {
		Text  string
		Value json.RawMessage
	}
	if err := json.Unmarshal([]byte(r.Call.ParamsJson), &params); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	switch r.Call.Operation {
	case "print":
		return answer(fmt.Sprintf(`{"printed": %d}`, len(params.Text))), nil
	case "set":
		s.value = params.Value
		return answer("null"), nil
	case "get":
		return answer(string(s.value)), nil
	}
	failed := &pb.Error{Code: "NO_SUCH_OPERATION", Message: r.Call.Operation, Executed: pb.Executed_EXECUTED_NO}
	return &pb.ExecuteResponse{InstanceId: instance, Outcome: &pb.ExecuteResponse_Error{Error: failed}}, nil
}

func (d *driver) ExecuteStream(stream pb.DriverService_ExecuteStreamServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	s, err := d.find(first.GetCall().GetSessionId())
	if err != nil {
		return err
	}
	ctx, end, err := s.begin(stream.Context(), first.GetCall().GetCallId())
	if err != nil {
		return err
	}
	defer end()
	for state := 1; ; state++ {
		select {
		case <-ctx.Done():
			done := &pb.ExecuteStreamResponse_End{End: answer("null")}
			return stream.Send(&pb.ExecuteStreamResponse{Event: done})
		case <-time.After(100 * time.Millisecond):
		}
		item := &pb.ExecuteStreamResponse_Json{Json: fmt.Sprintf(`{"state": %d}`, state)}
		if err := stream.Send(&pb.ExecuteStreamResponse{Event: item}); err != nil {
			return err
		}
	}
}

func (d *driver) Cancel(_ context.Context, r *pb.CancelRequest) (*pb.CancelResponse, error) {
	s, err := d.find(r.SessionId)
	if err != nil {
		return nil, err
	}
	s.cancel(r.CallId)
	return &pb.CancelResponse{}, nil
}

func (d *driver) Reset(_ context.Context, r *pb.ResetRequest) (*pb.ResetResponse, error) {
	s, err := d.find(r.SessionId)
	if err != nil {
		return nil, err
	}
	s.value = json.RawMessage("null")
	return &pb.ResetResponse{InstanceId: instance, Outcome: pb.ResetResponse_OUTCOME_CLEAN}, nil
}

func (d *driver) Disconnect(_ context.Context, r *pb.DisconnectRequest) (*pb.DisconnectResponse, error) {
	if found, ok := d.sessions.LoadAndDelete(r.SessionId); ok {
		found.(*session).cancel(^uint64(0))
	}
	return &pb.DisconnectResponse{}, nil
}

func answer(text string) *pb.ExecuteResponse {
	output := &pb.Answer{Output: &pb.Answer_Json{Json: text}}
	return &pb.ExecuteResponse{InstanceId: instance, Outcome: &pb.ExecuteResponse_Answer{Answer: output}}
}

func main() {
	network, address := "tcp", os.Args[1]
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterDriverServiceServer(server, &driver{})
	log.Fatal(server.Serve(listener))
}
