package raftfsm

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/futago/futago"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

// voteFile is what a data directory remembers about the third vote.
const voteFile = "thirdvote.json"

// Seize makes the stopped manager of d the only holder, by an operator's word;
// see [thirdvote.Seize] for what the operator vouches for. It refuses while
// something listens at the other manager's address; that nothing answers there
// is no proof that the other manager does not run.
func Seize(ctx context.Context, d *cluster.Dir, reg register.Register) (rec register.Record, err error) {
	node := d.Node()
	if err := seizable(node); err != nil {
		return rec, err
	}
	if _, err := os.Stat(d.Path("raft.db")); err != nil {
		// A term of its own would keep it from beginning a log.
		return rec, futago.Errorf(futago.CodeConflict, "manager %s has never run and holds nothing", node.Member).Wrap(err)
	}
	peer := node.Member.Peer()
	dial, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if c, err := (&net.Dialer{}).DialContext(dial, "tcp", node.Members[peer].Cluster); err == nil {
		_ = c.Close()
		return rec, futago.Errorf(futago.CodeConflict, "manager %s runs at %s", peer, node.Members[peer].Cluster).
			WithAction("stop it first: it may be acknowledging what would be lost")
	}
	st, err := openBolt(d.Path())
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return thirdvote.Seize(ctx, reg, d.Path(voteFile), node.Member, register.Identity(node.Identity()), st)
}

// Follow makes the stopped manager of d take the record as it is, after the other
// manager has seized it; see [thirdvote.Forget].
func Follow(d *cluster.Dir) error {
	node := d.Node()
	if err := seizable(node); err != nil {
		return err
	}
	return thirdvote.Forget(d.Path(voteFile), register.Identity(node.Identity()))
}

func seizable(n cluster.Node) error {
	if n.ThirdVote != cluster.ThirdVoteRegister || n.Member.Peer() == "" {
		return futago.Errorf(futago.CodeInvalid, "the third vote of this cluster is no register").
			WithAction("bring back any two of its three members")
	}
	return nil
}
