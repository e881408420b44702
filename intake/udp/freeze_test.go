package udp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childMark tells a copy of the test program to be a receiver.
const childMark = "FUTAGO_UDP_TEST_CHILD"

// receiveAndTell writes what Run does, a line each, until its standard input ends.
func receiveAndTell(out io.Writer) int {
	c, err := Listen(context.Background(), Config{Address: "127.0.0.1:0"})
	if err != nil {
		fmt.Fprintln(out, "error", err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	fmt.Fprintln(out, "address", c.Addr())
	err = c.Run(ctx, func(ds []Datagram) error {
		for _, d := range ds {
			fmt.Fprintln(out, "datagram", d.At, string(d.Data))
		}
		return nil
	}, func(at time.Time) { fmt.Fprintln(out, "idle", at.UnixNano()) })
	if err != nil {
		fmt.Fprintln(out, "error", err)
		return 1
	}
	return 0
}

// TestRun_Frozen stops a receiving process, sends to it, and lets it go on: the
// datagrams have the times at which they arrived, and no idle goes before them.
func TestRun_Frozen(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMark+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	line := func() (word string, at int64, text string) {
		if !lines.Scan() {
			t.Fatalf("the receiver ended: %v", lines.Err())
		}
		_, _ = fmt.Sscan(lines.Text(), &word, &at, &text)
		return word, at, text
	}
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "address ") {
		t.Fatalf("no address but %q", lines.Text())
	}
	from := dial(t, netip.MustParseAddrPort(strings.TrimPrefix(lines.Text(), "address ")))
	var idle int64
	until := func(want string, lowest, highest int64) {
		for {
			word, at, text := line()
			if word == "idle" {
				idle = max(idle, at)
				continue
			}
			if text != want || at <= idle || at < lowest || at > highest {
				t.Errorf("%s %q at %d: want %q after idle %d, from %d to %d", word, text, at, want, idle, lowest, highest)
			}
			return
		}
	}
	for round := range 3 {
		before := time.Now().UnixNano()
		send(t, from, "running")
		until("running", before, time.Now().UnixNano())

		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		poll(t, "stopped process", func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
			return err == nil && strings.Contains(string(b), ") T ")
		})
		first := time.Now().UnixNano()
		for range 10 {
			send(t, from, fmt.Sprint(round))
		}
		last := time.Now().UnixNano()
		time.Sleep(50 * time.Millisecond) // so that late stamps would show
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			until(fmt.Sprint(round), first, last)
		}
	}
}
