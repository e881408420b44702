package model

import "fmt"

// Walk takes up to steps random steps, with choose(n) drawing a number from 0
// to n-1. It reaches terms, logs and numbers of delayed messages that no
// search can, and returns what broke, "" for nothing, with the whole way.
// Crashes and lost disks are chosen more rarely than other steps.
func (m *Model) Walk(steps int, choose func(n int) int) (violation string, trace Trace, err error) {
	b := m.Bounds
	if b.Terms > maxTerm || b.Log > maxLog || b.Messages > maxMessages || b.Writes > maxWrites {
		return "", nil, fmt.Errorf("bounds %+v cannot be held", b)
	}
	s := initial()
	m.canonical(&s)
	for range steps {
		var next [groups][]successor
		x := stepper{m: m, tracing: true}
		x.yield = func(t *state) {
			m.canonical(t)
			next[x.group] = append(next[x.group], successor{*t, x.text, x.violation})
		}
		x.successors(&s)
		g, ok := chooseGroup(&next, choose)
		if !ok {
			return "", trace, nil
		}
		c := next[g][choose(len(next[g]))]
		s = c.state
		trace = append(trace, Step{Text: c.text, State: x.stateText(&s)})
		if c.violation != "" {
			return c.violation, trace, nil
		}
	}
	return "", trace, nil
}

type successor struct {
	state     state
	text      string
	violation string
}

// chooseGroup draws among the groups that have a step, by weight.
func chooseGroup(next *[groups][]successor, choose func(int) int) (group, bool) {
	weights := [groups]int{groupA: 6, groupB: 6, groupFailure: 1, groupRegister: 4, groupMessage: 4}
	total := 0
	for g, w := range weights {
		if len(next[g]) > 0 {
			total += w
		}
	}
	if total == 0 {
		return 0, false
	}
	k := choose(total)
	for g, w := range weights {
		if len(next[g]) == 0 {
			continue
		}
		if k < w {
			return group(g), true
		}
		k -= w
	}
	return 0, false
}
