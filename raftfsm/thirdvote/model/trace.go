package model

import (
	"fmt"
	"strconv"
	"strings"
)

// nodeName prints as A or B.
type nodeName uint8

func (n nodeName) String() string { return "AB"[n : n+1] }

func name[T ~int | ~uint8](i T) nodeName { return nodeName(i) }

// say adds to the text of the next successor, for traces. A search makes
// hundreds of thousands of steps a second and must not pay for texts: args
// are copied so that the caller's slice stays on its stack.
func (x *stepper) say(format string, args ...any) {
	if x.tracing {
		x.text += fmt.Sprintf(format, append([]any(nil), args...)...)
	}
}

func (w writeState) String() string {
	switch w {
	case underWay:
		return "under way"
	case done:
		return "done"
	case refused:
		return "refused"
	}
	return "unknown"
}

func (x *stepper) recordText(r record) string {
	if !x.tracing {
		return ""
	}
	vote := "-"
	if r.vote > 0 {
		vote = name(r.vote - 1).String()
	}
	return fmt.Sprintf("register{v%d.%d t%d vote %s holders %s}", r.version.number, r.version.history, r.term, vote, holdersText(r.holders))
}

func holdersText(h uint8) string { return [...]string{"{}", "{A}", "{B}", "{A,B}"}[h] }

func (n *node) logText() string {
	terms := make([]string, n.len)
	for k := range terms {
		terms[k] = strconv.Itoa(int(n.log[k]))
	}
	return "[" + strings.Join(terms, " ") + "]"
}

func nodeText(i int, n *node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s t%d %s c%d", name(i), [...]string{"follower", "candidate", "LEADER"}[n.role], n.term, n.logText(), n.commit)
	if n.solo > 0 {
		fmt.Fprintf(&b, " solo(%d)", n.solo)
	}
	if n.phase > 0 {
		fmt.Fprintf(&b, " readmission:%s", n.phase)
	}
	if !n.admitted {
		b.WriteString(" unadmitted")
	}
	if n.reading {
		b.WriteString(" reading")
	}
	return b.String()
}

// stateText shows a state with the names of the first one.
func (x *stepper) stateText(s *state) string {
	return fmt.Sprintf("%s; %s; %s", nodeText(0, &s.n[0]), nodeText(1, &s.n[1]), x.recordText(s.rec))
}

// Step is one line of a trace.
type Step struct {
	Text  string // what happened
	State string // what it led to
}

// Trace is a schedule from the start.
type Trace []Step

// String prints one numbered line for each step.
func (t Trace) String() string {
	var b strings.Builder
	for i, s := range t {
		fmt.Fprintf(&b, "%3d. %s\n     %s\n", i+1, s.Text, s.State)
	}
	return b.String()
}
