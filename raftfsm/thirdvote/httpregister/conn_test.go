package httpregister

import (
	"errors"
	"io"
	"net"
	"testing"
)

// "Certainly not sent" must stay true after it was said.
func TestWatchedConn_UnsentStaysUnsent(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	go func() { _, _ = io.Copy(io.Discard, b) }()
	c := &watchedConn{Conn: a}
	defer c.Close()
	if _, err := c.Write([]byte("first request")); err != nil {
		t.Fatal(err)
	}
	mark := c.begun()
	if _, err := c.Write([]byte("second")); err != nil {
		t.Fatal(err)
	}
	if c.unsentSince(mark) {
		t.Error("sent, and said to be unsent")
	}
	mark = c.begun()
	tried := attempts{conns: []attempt{{conn: c, mark: mark}}}
	if !tried.unsent() || !tried.once() {
		t.Error("unsent, and said to be sent")
	}
	if _, err := c.Write([]byte("late")); !errors.Is(err, errFenced) {
		t.Errorf("sent after it was said to be unsent: %v", err)
	}
}

func TestAttempts_InDoubt(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	go func() { _, _ = io.Copy(io.Discard, b) }()
	c := &watchedConn{Conn: a}
	defer c.Close()
	if _, err := c.Write([]byte("sent")); err != nil {
		t.Fatal(err)
	}
	sent := attempts{conns: []attempt{{conn: c, mark: 0}, {conn: &watchedConn{}, mark: 0}}}
	if sent.unsent() || sent.once() {
		t.Error("a first copy was sent")
	}
	unwatched := attempts{conns: []attempt{{}}}
	if unwatched.unsent() || !unwatched.once() {
		t.Error("nobody watched the connection")
	}
	none := attempts{}
	if !none.unsent() || !none.once() {
		t.Error("never connected")
	}
}
