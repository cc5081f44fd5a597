// Package driver is what every driver needs: its sessions, one call at a time on each, and ends that are waited for.
// Copy it as it is.
package driver

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net"
	"strings"
	"sync"

	pb "example.com/press/pluginv1"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Params are an operation's, with numbers as json.Number.
type Params map[string]any

// Caller takes what is streamed, as JSON, and gives the parts of its input until io.EOF.
type Caller struct {
	Send    func(any) error
	Receive func() ([]byte, error)
}

// Device is what a session is connected to. What takes long stops when its context ends.
type Device interface {
	// Execute runs an operation, and returns what becomes JSON.
	Execute(ctx context.Context, operation string, params Params) (any, error)
	// Stream runs one that streams, to its end.
	Stream(ctx context.Context, operation string, params Params, caller Caller) error
	// Reset says whether nothing of the last holder is left.
	Reset() bool
	Close()
}

// Refused is the error of a device that does not do what it is asked, and has done nothing of it.
type Refused string

func (r Refused) Error() string { return string(r) }

type session struct {
	busy   sync.Mutex // Held by its Connect, then by its call.
	last   uint64
	device Device
}

type service struct {
	pb.UnimplementedDriverServiceServer
	about    *pb.DescribeResponse
	connect  func(context.Context, *pb.ConnectRequest) (Device, error)
	sessions sync.Map
}

func (s *service) find(name string) (*session, error) {
	if found, ok := s.sessions.Load(name); ok {
		return found.(*session), nil
	}
	return nil, status.Error(codes.NotFound, "no such session")
}

// begin waits for a call's turn. Who is given a session unlocks it at the call's end.
func (s *service) begin(call *pb.Call) (*session, error) {
	found, err := s.find(call.GetSessionId())
	if err != nil {
		return nil, err
	}
	found.busy.Lock()
	if call.CallId <= found.last { // Its Cancel was faster.
		found.busy.Unlock()
		return nil, status.Error(codes.Canceled, "cancelled before it began")
	}
	found.last = call.CallId
	return found, nil
}

func (s *service) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return s.about, nil
}

func (s *service) Connect(ctx context.Context, r *pb.ConnectRequest) (*pb.ConnectResponse, error) {
	made := &session{}
	made.busy.Lock()
	s.sessions.Store(r.SessionId, made)
	device, err := s.connect(ctx, r)
	made.device = device
	made.busy.Unlock()
	if err == nil {
		err = ctx.Err() // It has been given up.
	}
	if err != nil {
		s.end(r.SessionId)
		return nil, refusal(err)
	}
	return &pb.ConnectResponse{InstanceId: s.about.InstanceId}, nil
}

// refusal is the status of a Connect that came to nothing.
func refusal(err error) error {
	var refused Refused
	if errors.As(err, &refused) {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return err
}

func (s *service) Check(_ context.Context, r *pb.CheckRequest) (*pb.CheckResponse, error) {
	_, err := s.find(r.SessionId)
	return &pb.CheckResponse{InstanceId: s.about.InstanceId}, err
}

func (s *service) Execute(ctx context.Context, r *pb.ExecuteRequest) (*pb.ExecuteResponse, error) {
	found, err := s.begin(r.Call)
	if err != nil {
		return nil, err
	}
	defer found.busy.Unlock()
	done, err := found.device.Execute(ctx, r.Call.Operation, paramsOf(r.Call))
	if err != nil {
		return s.failed(err)
	}
	text, err := json.Marshal(done)
	return s.answered(&pb.Answer{Output: &pb.Answer_Json{Json: string(text)}}), err
}

func (s *service) ExecuteStream(stream pb.DriverService_ExecuteStreamServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	found, err := s.begin(first.GetCall())
	if err != nil {
		return err
	}
	defer found.busy.Unlock()
	send := func(item any) error {
		text, err := json.Marshal(item)
		if err != nil {
			return err
		}
		return stream.Send(&pb.ExecuteStreamResponse{Event: &pb.ExecuteStreamResponse_Json{Json: string(text)}})
	}
	receive := func() ([]byte, error) {
		more, err := stream.Recv()
		return more.GetInput(), err
	}
	call := first.GetCall()
	end := s.answered(&pb.Answer{})
	if err := found.device.Stream(stream.Context(), call.Operation, paramsOf(call), Caller{send, receive}); err != nil {
		if end, err = s.failed(err); err != nil {
			return err
		}
	}
	return stream.Send(&pb.ExecuteStreamResponse{Event: &pb.ExecuteStreamResponse_End{End: end}})
}

// paramsOf reads what the broker has found to be an object.
func paramsOf(call *pb.Call) (params Params) {
	reader := json.NewDecoder(strings.NewReader(call.ParamsJson))
	reader.UseNumber()
	_ = reader.Decode(&params)
	return params
}

func (s *service) answered(answer *pb.Answer) *pb.ExecuteResponse {
	return &pb.ExecuteResponse{InstanceId: s.about.InstanceId, Outcome: &pb.ExecuteResponse_Answer{Answer: answer}}
}

// failed is the end of a call that was refused; any other error is the status UNKNOWN, which loses the session. A code
// of the device's own, such as a gRPC client's, would say something else of this call.
func (s *service) failed(err error) (*pb.ExecuteResponse, error) {
	var refused Refused
	if !errors.As(err, &refused) {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	told := &pb.Error{Message: err.Error(), GrpcCode: int32(codes.InvalidArgument), Executed: pb.Executed_EXECUTED_NO}
	return &pb.ExecuteResponse{InstanceId: s.about.InstanceId, Outcome: &pb.ExecuteResponse_Error{Error: told}}, nil
}

func (s *service) Cancel(_ context.Context, r *pb.CancelRequest) (*pb.CancelResponse, error) {
	found, err := s.find(r.SessionId)
	if err != nil {
		return nil, err
	}
	found.busy.Lock() // Its call has ended.
	defer found.busy.Unlock()
	found.last = max(found.last, r.CallId)
	return &pb.CancelResponse{}, nil
}

func (s *service) Reset(_ context.Context, r *pb.ResetRequest) (*pb.ResetResponse, error) {
	found, err := s.find(r.SessionId)
	if err != nil {
		return nil, err
	}
	outcome := pb.ResetResponse_OUTCOME_CLOSE
	if found.device.Reset() {
		outcome = pb.ResetResponse_OUTCOME_CLEAN
	}
	return &pb.ResetResponse{InstanceId: s.about.InstanceId, Outcome: outcome}, nil
}

func (s *service) Disconnect(_ context.Context, r *pb.DisconnectRequest) (*pb.DisconnectResponse, error) {
	s.end(r.SessionId)
	return &pb.DisconnectResponse{}, nil
}

func (s *service) end(name string) {
	found, ok := s.sessions.LoadAndDelete(name)
	if !ok {
		return
	}
	ending := found.(*session)
	ending.busy.Lock() // Its Connect or its call has ended.
	defer ending.busy.Unlock()
	ending.last = math.MaxUint64 // And none comes later.
	if ending.device != nil {
		ending.device.Close()
	}
}

// Serve serves devices at `host:port` or `unix:/path`. It adds to `about` what is the same for every driver.
func Serve(address string, about *pb.DescribeResponse, connect func(context.Context, *pb.ConnectRequest) (Device, error)) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	about.ProtocolVersion, about.InstanceId = 1, uuid.NewString()
	server := grpc.NewServer()
	pb.RegisterDriverServiceServer(server, &service{about: about, connect: connect})
	return server.Serve(listener)
}
