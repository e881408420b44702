package cluster

import "github.com/futago/futago"

// SetInvitation replaces the invitation of the witness, sealed and durably,
// for a cluster whose witness was set up anew.
func (d *Dir) SetInvitation(text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.node
	if n.ThirdVote != ThirdVoteRegister {
		return futago.Errorf(futago.CodeInvalid, "cluster %s has no witness", n.ClusterName)
	}
	sealed, err := d.keys.Seal(text)
	if err != nil {
		return err
	}
	n.Invitation = sealed
	if err := writeNode(d.path, n, d.keys); err != nil {
		return err
	}
	d.node = n
	return nil
}
