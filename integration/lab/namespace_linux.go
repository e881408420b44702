package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// errClosed is the cause of calls that come after Close.
var errClosed = errors.New("the lab is closed")

// namespace is a network namespace without a name, and one operating system
// thread that lives inside it. The thread exists as long as the namespace: a
// child's parent-death signal follows the thread that started it, not the
// process, so a thread that came and went would take its children along.
type namespace struct {
	file  *os.File // the namespace itself, for setns and for netlink
	inode uint64   // as seen in /proc/PID/ns/net
	jobs  chan job
	quit  chan struct{}
	done  chan struct{}
}

type job struct {
	fn     func() error
	result chan error
}

// newNamespace makes a namespace whose loopback is still down.
func newNamespace() (*namespace, error) {
	n := &namespace{jobs: make(chan job), quit: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan error, 1)
	go onSpareThread(func() { n.run(ready) })
	if err := <-ready; err != nil {
		return nil, err
	}
	return n, nil
}

// onSpareThread runs fn on a thread that may be spoiled: it is locked, never
// the first thread of the process (whose namespace is what others see as the
// process's own), and ends with fn.
func onSpareThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		fn() // no unlock: the runtime ends the thread together with the goroutine
		return
	}
	started := make(chan struct{})
	go func() {
		onSpareThread(func() {
			close(started)
			fn()
		})
	}()
	<-started // hold the first thread until the other goroutine has one of its own
	runtime.UnlockOSThread()
}

func (n *namespace) run(ready chan<- error) {
	defer close(n.done)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- fmt.Errorf("unshare the network: %w", err)
		return
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		ready <- err
		return
	}
	n.file = f
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		ready <- fmt.Errorf("stat the namespace: %w", err)
		return
	}
	n.inode = st.Ino
	ready <- nil
	for {
		select {
		case j := <-n.jobs:
			j.result <- j.fn()
		case <-n.quit:
			return
		}
	}
}

// do runs a short fn on the namespace's own thread and returns its error.
func (n *namespace) do(fn func() error) error {
	j := job{fn: fn, result: make(chan error, 1)}
	select {
	case n.jobs <- j:
		return <-j.result
	case <-n.quit:
		return errClosed
	}
}

// enter runs fn, which may block, on a thread that is lent to the namespace
// for so long. Sockets that fn makes belong to the namespace for good.
func (n *namespace) enter(fn func() error) error {
	select {
	case <-n.quit:
		return errClosed
	default:
	}
	result := make(chan error, 1)
	go onSpareThread(func() {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		result <- fn()
	})
	return <-result
}

// close ends the thread and gives the namespace up.
func (n *namespace) close() {
	close(n.quit)
	<-n.done
	n.file.Close()
}
