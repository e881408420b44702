package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm"
	"github.com/futago/futago/raftfsm/thirdvote/httpregister"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
)

type seizeCmd struct {
	Follow  bool   `help:"The other manager has seized the record: this one takes it as it is."`
	Witness string `help:"Invitation of a witness that takes the old one's place." placeholder:"fgw1.…"`
	Yes     bool   `help:"Do not ask."`
}

// Help says when.
func (*seizeCmd) Help() string {
	return "The last resort where the record in the witness is lost, or the only manager that it names: see docs/third-vote.md. " +
		"Stop both managers first.\n\n" + examples("futago seize", "futago seize --follow   # on the other manager, afterwards")
}

// Run works on the data directory of a stopped manager.
func (c *seizeCmd) Run(e *env) error {
	d, err := cluster.Open(e.global.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	n := d.Node()
	fmt.Fprintf(e.err, c.warning(), n.Member, n.ClusterName, n.Member.Peer())
	if !c.Yes {
		fmt.Fprint(e.err, "\nName of the cluster, to go on: ")
		if line, _ := bufio.NewReader(os.Stdin).ReadString('\n'); strings.TrimSpace(line) != n.ClusterName {
			return futago.Errorf(futago.CodeInvalid, "nothing was changed")
		}
	}
	text, err := d.Keys().Open(n.Invitation)
	if c.Witness != "" {
		text, err = c.Witness, nil
	}
	if err != nil {
		return err
	}
	inv, err := witness.ParseInvitation(text)
	if err == nil && c.Witness != "" {
		err = d.SetInvitation(text)
	}
	if err != nil {
		return err
	}
	if c.Follow {
		return raftfsm.Follow(d)
	}
	reg, err := httpregister.New(httpregister.Options{Invitation: inv})
	if err != nil {
		return err
	}
	defer reg.Close()
	rec, err := raftfsm.Seize(e.ctx, d, reg)
	if err == nil {
		fmt.Fprintf(e.out, "The record says now: %s.\nStart this manager. If the other one has its data still, run futago seize --follow there "+
			"before you start it;\notherwise join it anew (futago token join --member %s).\n", rec, n.Member.Peer())
	}
	return err
}

func (c *seizeCmd) warning() string {
	if c.Follow {
		return `Manager %s of cluster %q will take the record as it is. Right if manager %s has just run futago seize.
`
	}
	return `Manager %s of cluster %q becomes the only one that may go on. LOST FOR GOOD is whatever manager %s
acknowledged while it worked alone. You vouch for this: that manager does not run, anywhere,
and the record that it knows never comes back.
`
}
