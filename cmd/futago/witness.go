package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/futago/futago/raftfsm/thirdvote/witness"
)

type witnessCmd struct {
	Run    witnessRunCmd    `cmd:"" default:"withargs" help:"Serve the registers of any number of clusters."`
	Invite witnessInviteCmd `cmd:"" help:"Print the line that futago init of a cluster needs."`
}

// witnessDir is the flag that both have.
type witnessDir struct {
	Data string `help:"Data directory of the witness. Never restore it from a backup." default:"/var/lib/futago-witness" type:"path"`
}

type witnessRunCmd struct {
	witnessDir
	Listen string   `help:"Address to listen on." default:":7702"`
	Names  []string `help:"Further names for the certificate, for tools that check names."`

	MetricsListen string `help:"Loopback address of /metrics for Prometheus, in plain HTTP." placeholder:"127.0.0.1:7703"`
}

// Help shows an example.
func (*witnessRunCmd) Help() string {
	return examples("futago witness --listen :7702", "futago witness invite --cluster plant1 --url https://witness.example:7702")
}

// Run serves until a signal ends it.
func (c *witnessRunCmd) Run(e *env) error {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s, err := witness.New(witness.Config{
		Dir: c.Data, Listen: c.Listen, Names: c.Names, Logger: e.global.logger(), MetricsListen: c.MetricsListen, Registry: metrics,
	})
	if err != nil {
		return err
	}
	return errors.Join(s.Run(e.ctx), s.Close())
}

type witnessInviteCmd struct {
	witnessDir
	Cluster string `help:"Name of the cluster." required:""`
	URL     string `help:"Where its managers reach this witness." required:"" placeholder:"https://HOST:7702"`
	Replace bool   `help:"Earlier invitations of this cluster end."`
}

// Run prints the invitation alone, so that it can be piped.
func (c *witnessInviteCmd) Run(e *env) error {
	inv, err := witness.NewInvitation(witness.InvitationOptions{
		Dir: c.Data, Cluster: c.Cluster, URL: c.URL, Replace: c.Replace, Now: time.Now,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(e.out, inv.Encode())
	return nil
}
