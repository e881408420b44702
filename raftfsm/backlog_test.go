package raftfsm

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func entriesOf(first uint64, sizes ...int) (ls []*raft.Log) {
	for i, n := range sizes {
		ls = append(ls, &raft.Log{Index: first + uint64(i), Type: raft.LogCommand, Data: make([]byte, n)})
	}
	return ls
}

func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backlog
		start := time.Now()
		b.wrote(entriesOf(1, 40, 40, 40))
		b.wait(120, time.Second)
		b.wrote([]*raft.Log{{Index: 4, Type: raft.LogNoop, Data: make([]byte, 1000)}}) // never applied
		b.wait(120, time.Second)
		if time.Since(start) != 0 {
			t.Error("waited with room left")
		}
		b.wrote(entriesOf(5, 1))
		go func() {
			time.Sleep(time.Second)
			b.applied(1)
		}()
		b.wait(120, time.Minute)
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited for %v", d)
		}
		b.wrote(entriesOf(6, 500))
		b.wait(120, time.Second) // nobody applies: goes on all the same
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("waited for %v", d)
		}
		b.deleted(6, 6) // a conflicting end
		b.wait(120, time.Second)
		b.applied(5)
		if time.Since(start) != 2*time.Second || b.bytes != 0 || len(b.waiting) != 0 {
			t.Errorf("%d bytes in %d entries are left", b.bytes, len(b.waiting))
		}
	})
}

func TestWithinBytes(t *testing.T) {
	for _, tc := range []struct {
		limit, want int
		sizes       []int
	}{
		{100, 0, nil},
		{100, 1, []int{500}},
		{100, 1, []int{500, 1}},
		{100, 2, []int{50, 50, 1}},
		{100, 3, []int{50, 0, 50}},
	} {
		if got := withinBytes(entriesOf(1, tc.sizes...), tc.limit); got != tc.want {
			t.Errorf("%v within %d: %d, want %d", tc.sizes, tc.limit, got, tc.want)
		}
	}
}
