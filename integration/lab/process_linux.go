package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Proc describes a process to start on a host.
type Proc struct {
	// Name is for logs; default is the base name of Path.
	Name string
	// Path is the program: a path, or a name to look up in PATH.
	Path string
	Args []string // without the program itself
	// Env is added to the environment of the test.
	Env []string
	// Dir is the working directory; default is the lab's scratch directory.
	Dir string
	// Log is the file that output and errors are appended to; default is
	// HOST-NAME.log in the scratch directory.
	Log string
}

// Process is a process on a host of the lab.
type Process struct {
	host *Host
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	err error // of Wait; set before done is closed
}

// Start starts a process on the host. The process is killed when ctx ends and
// when the lab is closed, whichever comes first.
func (h *Host) Start(ctx context.Context, p Proc) (*Process, error) {
	if p.Name == "" {
		p.Name = filepath.Base(p.Path)
	}
	if p.Dir == "" {
		p.Dir = h.lab.dir
	}
	if p.Log == "" {
		p.Log = filepath.Join(h.lab.dir, h.name+"-"+p.Name+".log")
	}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	mark, err := owner()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Dir = p.Dir
	cmd.Env = append(append(os.Environ(), p.Env...), ownerVar+"="+mark)
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own, so that a terminal's interrupt goes to the test alone.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}

	l := h.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errClosed
	case l.off[h.name]:
		return nil, fmt.Errorf("host %s is powered off", h.name)
	}
	if err := h.ns.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s on host %s: %w", p.Name, h.name, err)
	}
	proc := &Process{host: h, name: p.Name, log: p.Log, cmd: cmd, done: make(chan struct{})}
	l.procs = append(l.procs, proc)
	l.log.Info("process started", "host", h.name, "process", p.Name, "pid", proc.PID())
	go func() {
		err := cmd.Wait()
		l.log.Info("process ended", "host", h.name, "process", p.Name, "pid", proc.PID(), "state", cmd.ProcessState)
		proc.mu.Lock()
		proc.err = err
		proc.mu.Unlock()
		close(proc.done)
	}()
	return proc, nil
}

// Run starts a process, waits for its end and returns what it wrote.
func (h *Host) Run(ctx context.Context, p Proc) (output string, err error) {
	f, err := os.CreateTemp(h.lab.dir, "run-*.log")
	if err != nil {
		return "", err
	}
	f.Close()
	defer os.Remove(f.Name())
	p.Log = f.Name()
	proc, err := h.Start(ctx, p)
	if err != nil {
		return "", err
	}
	err = proc.Wait(context.WithoutCancel(ctx)) // ctx kills it, so this ends too
	b, readErr := os.ReadFile(f.Name())
	if err != nil {
		err = fmt.Errorf("%s on host %s: %w: %s", proc.name, h.name, err, strings.TrimSpace(string(b)))
	}
	return string(b), errors.Join(err, readErr)
}

// PID is the process id on the machine.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Host is where the process runs.
func (p *Process) Host() *Host { return p.host }

// LogFile is where its output goes.
func (p *Process) LogFile() string { return p.log }

// Log returns its output so far.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet. A frozen one runs.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end of the process and returns nil when it ended with
// status 0, else an error that is an [exec.ExitError], or the error of ctx.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s on host %s still runs: %w", p.name, p.host.name, ctx.Err())
	}
}

// Kill9 kills the process and returns when it is gone. Its children are not
// touched (see Host.PowerOff), and the kernel closes its connections. A process
// that waits for a hanging disk is gone only after the disk is released, so
// Kill9 gives up waiting after ten seconds.
func (p *Process) Kill9() error {
	p.kill()
	select {
	case <-p.done:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("%s on host %s does not die", p.name, p.host.name)
	}
}

func (p *Process) kill() { _ = p.cmd.Process.Kill() } // an ended one is what is wanted

// Terminate asks the process to end (SIGTERM) and does not wait.
func (p *Process) Terminate() error { return p.Signal(unix.SIGTERM) }

// Signal sends a signal. It fails when the process has ended.
func (p *Process) Signal(s unix.Signal) error { return p.cmd.Process.Signal(s) }

// Freeze stops the process (SIGSTOP) and returns when all its threads stand
// still. Its sockets stay open and go on filling.
func (p *Process) Freeze() error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for !p.stopped() {
		if !p.Running() {
			return fmt.Errorf("%s on host %s ended", p.name, p.host.name)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s on host %s does not stop", p.name, p.host.name)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Thaw lets a frozen process go on (SIGCONT).
func (p *Process) Thaw() error { return p.Signal(unix.SIGCONT) }

// stopped reports whether every thread of the process is in state T.
func (p *Process) stopped() bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
	if err != nil || len(tasks) == 0 {
		return false
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		s := string(b)
		if i := strings.LastIndexByte(s, ')'); i < 0 || !strings.HasPrefix(s[i+1:], " T") {
			return false
		}
	}
	return true
}
