package main

import (
	"time"

	"github.com/futago/futago/demo"
)

type demoCmd struct {
	Data    string        `help:"Where everything goes; a temporary directory, removed at the end, when empty." type:"path"`
	Rate    float64       `help:"Sample traps a second; 0 sends none." default:"2"`
	Restart time.Duration `help:"How long a killed process stays away." default:"20s"`
	Net     string        `help:"First three bytes of the loopback addresses; for a second demonstration at the same time." default:"127.0.0"`
}

// Help shows examples.
func (*demoCmd) Help() string {
	return examples("futago demo", "futago demo --data ~/futago-demo    kept, and gone on with the next time")
}

// Run shows a whole cluster on loopback.
func (c *demoCmd) Run(e *env) error {
	return demo.Run(e.ctx, demo.Options{Dir: c.Data, Out: e.out, Rate: c.Rate, Restart: c.Restart, Net: c.Net})
}
