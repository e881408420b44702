package thirdvote

import (
	"testing"
	"time"
)

// An append that took long does not make a peer look silent that has answered
// heartbeats meanwhile.
func TestPeerTakes_SlowAppend(t *testing.T) {
	now := time.Now()
	v := &Voter{cfg: Config{
		HeartbeatTimeout: time.Second, DetectFailed: 100 * time.Millisecond, DetectSilent: 500 * time.Millisecond, DetectStalled: 4 * time.Second,
	}}
	v.waiting = &waiting{since: now.Add(-200 * time.Millisecond)}
	v.peerTook(now.Add(-50*time.Millisecond), 3, 3, 0, true)   // a heartbeat
	v.peerTook(now.Add(-900*time.Millisecond), 3, 3, 17, true) // the append
	if takes, again := v.peerTakes(now); !takes || again != 450*time.Millisecond {
		t.Errorf("takes %v, again in %v", takes, again)
	}
	if !v.contact.inTerm.Equal(now.Add(-50 * time.Millisecond)) {
		t.Error("the evidence of leadership went back")
	}
	if takes, _ := v.peerTakes(now.Add(450 * time.Millisecond)); takes {
		t.Error("a silent peer takes")
	}
}
