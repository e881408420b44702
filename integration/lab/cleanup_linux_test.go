package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago/integration/lab"
)

// traces lists what is left on the machine of labs in this scratch directory.
func traces(dir string, pids ...int) (found []string) {
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), dir) {
		found = append(found, "a mount")
	}
	if _, err := os.Stat(dir); err == nil {
		found = append(found, "the scratch directory")
	}
	for _, pid := range pids {
		if !gone(pid) {
			found = append(found, "process "+strconv.Itoa(pid))
		}
	}
	return found
}

// populate makes one of everything: a process with a grandchild that left its
// process group, and two disks.
func populate(l *lab.Lab) (pids []int, err error) {
	h := l.Host("a")
	file := l.Dir() + "/pid"
	p, err := h.Start(context.Background(), lab.Proc{
		Path: "sh", Args: []string{"-c", `setsid sleep 300 & echo $! >"$0.new"; mv "$0.new" "$0"; sleep 300`, file},
	})
	if err != nil {
		return nil, err
	}
	if _, err := h.SmallDisk(1 << 20); err != nil {
		return nil, err
	}
	d, err := h.FaultyDisk()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.Path()+"/file", []byte("x"), 0o600); err != nil {
		return nil, err
	}
	for range 10000 {
		b, _ := os.ReadFile(file)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return []int{p.PID(), pid}, nil
		}
		time.Sleep(time.Millisecond)
	}
	return nil, fmt.Errorf("no grandchild")
}

func TestCloseLeavesNothing(t *testing.T) {
	for name, fab := range map[string]lab.Fabric{"bridge": lab.Bridge, "switch": lab.Switch} {
		t.Run(name, func(t *testing.T) {
			if err := lab.Supported(); err != nil {
				t.Skip(err)
			}
			l, err := lab.Open(lab.Config{Fabric: fab})
			if err != nil {
				t.Fatal(err)
			}
			pids, err := populate(l)
			if err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if left := traces(l.Dir(), pids...); left != nil {
				t.Errorf("left behind: %v", left)
			}
			if err := l.Close(); err != nil {
				t.Errorf("second close: %v", err)
			}
			if err := l.Cut("a", "b"); err == nil {
				t.Error("a closed lab cuts links")
			}
		})
	}
}

// What a killed test leaves behind goes with the next sweep; its direct
// children go at once.
func TestKilledRunIsSwept(t *testing.T) {
	if err := lab.Supported(); err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestVictim$")
	cmd.Env = append(os.Environ(), "LAB_TEST_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the victim says nothing: %v", err)
	}
	var dir string
	var child, grandchild int
	if _, err := fmt.Sscanf(line, "ready %s %d %d", &dir, &child, &grandchild); err != nil {
		t.Fatalf("the victim says %q", line)
	}
	if err := lab.Sweep(); err != nil {
		t.Fatal(err)
	}
	if gone(child) || gone(grandchild) {
		t.Fatal("a sweep touched a lab that lives")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "the child dies with its parent", func() bool { return gone(child) })
	if err := lab.Sweep(); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is left", func() bool { return traces(dir, child, grandchild) == nil })
}

// TestVictim is the run that TestKilledRunIsSwept kills.
func TestVictim(t *testing.T) {
	if os.Getenv("LAB_TEST_VICTIM") == "" {
		t.Skip("only a victim of another test")
	}
	l, err := lab.Open(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pids, err := populate(l)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, "ready", l.Dir(), pids[0], pids[1])
	select {}
}
