// A driver in Go, for a device that it only pretends: a press that prints texts and keeps a setting.
//
// Usage: press ADDRESS, such as 127.0.0.1:7000 or unix:/run/press.sock. scripts/driver-stubs makes the stubs.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"example.com/press/driver"
	pb "example.com/press/pluginv1"
)

var about = &pb.DescribeResponse{
	Driver: "press", Version: "1.0",
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

type press struct{ value any }

// Here a real driver connects to r.Endpoint.
func connect(_ context.Context, r *pb.ConnectRequest) (driver.Device, error) {
	for name := range r.GetConfig().GetFields() {
		if name != "tray" {
			return nil, driver.Refused("config: only `tray` is known")
		}
	}
	return &press{}, nil
}

func (p *press) Execute(_ context.Context, operation string, params driver.Params) (any, error) {
	text, isText := params["text"].(string)
	switch {
	case operation == "print" && isText:
		return map[string]int{"printed": len(text)}, nil
	case operation == "set":
		p.value = params["value"]
		return p.value, nil
	case operation == "get":
		return p.value, nil
	}
	return nil, driver.Refused("there is no " + operation + " with these params")
}

func (p *press) Stream(ctx context.Context, _ string, _ driver.Params, caller driver.Caller) error {
	for state := 1; ; state++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if err := caller.Send(map[string]int{"state": state}); err != nil {
			return err
		}
	}
}

func (p *press) Reset() bool { p.value = nil; return true }

func (p *press) Close() {}

func main() {
	log.Fatal(driver.Serve(os.Args[1], about, connect))
}
