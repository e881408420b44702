package machine

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store"
)

// proposal applies an entry that has an id: once, however often it comes.
func (t *transaction) proposal(e *Entry, p command.Proposal) (Result, error) {
	id := p.Header().ID
	res, found, err := t.stored(id)
	if err != nil {
		return Result{}, err
	}
	m := t.m
	if found {
		m.buf = append(append(m.buf, decidedRepeat), id[:]...)
		return res, nil
	}
	res = Result{Index: e.Index}
	refused, err := t.perform(p, &res)
	if err != nil {
		return Result{}, err
	}
	if refused != nil {
		res.Code, res.Message, res.Action = refused.Code, refused.Message, refused.Action
	}
	m.buf = append(m.buf, decidedProposal, byte(p.EntryType()))
	m.buf = appendBytes(m.buf, []byte(res.Code))
	if res.Code == "" {
		m.buf = appendBytes(m.buf, e.Data)
	}
	b, err := json.Marshal(res)
	if err != nil {
		return Result{}, fmt.Errorf("result of proposal %s: %w", id, err)
	}
	return res, t.tx.PutProposal(id, m.applied.LogTime, b)
}

// perform carries a proposal out, or refuses it and changes nothing.
func (t *transaction) perform(p command.Proposal, res *Result) (refused *futago.Error, err error) {
	switch p := p.(type) {
	case *command.PutIntakeSettings:
		return t.putSettings(p)
	case *command.PutUser:
		return t.putUser(p)
	case *command.DeleteUser:
		return t.deleteUser(p)
	case *command.PutToken:
		if p.Token.ID == "" {
			return futago.Errorf(futago.CodeInvalid, "a token needs an id"), nil
		}
		return nil, t.tx.PutToken(p.Token)
	case *command.DeleteToken:
		had, err := t.tx.DeleteToken(p.TokenID)
		if err == nil && !had {
			return futago.Errorf(futago.CodeNotFound, "token %q does not exist", p.TokenID), nil
		}
		return nil, err
	case *command.Report:
		return t.report(p, res)
	default:
		return nil, fmt.Errorf("%v has no place in the state machine", p.EntryType())
	}
}

// putSettings checks the revision alone. What settings may say is the
// proposer's business: a check that differs between versions would part the
// members.
func (t *transaction) putSettings(p *command.PutIntakeSettings) (refused *futago.Error, err error) {
	r := &t.m.rules
	if have := r.settings.Revision; p.Settings.Revision != have+1 {
		return futago.Errorf(futago.CodeConflict, "the intake settings are at revision %d, and revision %d cannot follow it", have, p.Settings.Revision).
			WithAction("read them again and repeat the change"), nil
	}
	if err := t.tx.PutSettings(p.Settings); err != nil {
		return nil, err
	}
	r.reset(&p.Settings)
	return nil, nil
}

func (t *transaction) putUser(p *command.PutUser) (refused *futago.Error, err error) {
	u := &p.User
	if u.Name == "" {
		return futago.Errorf(futago.CodeInvalid, "a user needs a name"), nil
	}
	old, exists, err := t.tx.User(u.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case exists && p.Create:
		return futago.Errorf(futago.CodeConflict, "user %q exists already", u.Name), nil
	case !exists && !p.Create:
		return futago.Errorf(futago.CodeNotFound, "user %q does not exist", u.Name), nil
	case exists:
		u.CreatedAt = old.CreatedAt
	}
	if exists && old.Role == futago.RoleAdmin && u.Role != futago.RoleAdmin {
		if refused, err := t.lastAdmin(u.Name); refused != nil || err != nil {
			return refused, err
		}
	}
	return nil, t.tx.PutUser(*u)
}

func (t *transaction) deleteUser(p *command.DeleteUser) (refused *futago.Error, err error) {
	old, exists, err := t.tx.User(p.Name)
	if err != nil {
		return nil, err
	}
	if !exists {
		return futago.Errorf(futago.CodeNotFound, "user %q does not exist", p.Name), nil
	}
	if old.Role == futago.RoleAdmin {
		if refused, err := t.lastAdmin(p.Name); refused != nil || err != nil {
			return refused, err
		}
	}
	_, err = t.tx.DeleteUser(p.Name)
	return nil, err
}

// lastAdmin refuses when name is the only admin.
func (t *transaction) lastAdmin(name string) (refused *futago.Error, err error) {
	users, err := t.tx.Users()
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		if u.Name != name && u.Role == futago.RoleAdmin {
			return nil, nil
		}
	}
	return futago.Errorf(futago.CodeConflict, "user %q is the last admin", name).WithAction("make somebody else an admin first"), nil
}

// report makes an event of kind internal. It is never judged: a report is made
// by one member, once.
func (t *transaction) report(p *command.Report, res *Result) (refused *futago.Error, err error) {
	m := t.m
	if !p.Member.Valid() || p.Severity > futago.SeverityDebug {
		return futago.Errorf(futago.CodeInvalid, "a report of member %q with severity %d", p.Member, uint8(p.Severity)), nil
	}
	trap := futago.Trap{
		Kind: futago.KindInternal, Transport: futago.TransportInternal, Severity: p.Severity, Parsed: true, Charset: "utf-8",
		Message: p.Message, Own: &futago.InternalField{Member: p.Member, Topic: p.Topic},
	}
	at := p.At.UnixNano()
	row := [1]store.EventRow{{
		ID: m.applied.NextEvent, At: at, Kind: futago.KindInternal, Severity: p.Severity, Reason: futago.ReasonInternal,
		Key:  futago.NewKey(futago.KindInternal, netip.Addr{}, []byte(p.Member), []byte(p.Topic), []byte(p.Message)),
		Trap: command.AppendTrap(nil, &trap),
	}}
	if slot, ok := p.Member.Slot(); ok {
		row[0].Count[slot], row[0].First[slot], row[0].Last[slot] = 1, at, at
	} else {
		row[0].Window = true // counts as one without a receipt
	}
	m.applied.NextEvent++
	m.counters.Events++
	res.EventID = row[0].ID
	m.buf = appendEvent(m.buf, &row[0])
	return nil, t.tx.InsertEvents(row[:])
}
