package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/futago/futago"
)

// futago runs the product's own command and returns what it printed. Its exit
// code says whether a repetition may help.
func (d *demo) futago(ctx context.Context, args ...string) (string, error) {
	var out, errw bytes.Buffer
	cmd := exec.CommandContext(ctx, d.exe, args...)
	cmd.Stdout, cmd.Stderr = &out, &errw
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	code := futago.CodeInternal
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 5 {
		code = futago.CodeUnavailable // or unknown: all commands here may be repeated
	}
	return "", futago.Errorf(code, "futago %s: %s", args[0], strings.TrimPrefix(strings.TrimSpace(errw.String()), "futago: ")).Wrap(err)
}

// stopLimit is how long a part may take to end before it is killed.
const stopLimit = 15 * time.Second

// supervise keeps a process running until ctx ends; a killed one comes back
// after a while, so that there is something to watch.
func (d *demo) supervise(ctx context.Context, name string, args ...string) {
	d.parts.Go(func() error {
		// The kernel ends a child when the thread that made it ends (see
		// command), so this one must not, and must be the same throughout.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		file := d.path(strings.ReplaceAll(name, " ", "-"))
		log, err := os.OpenFile(file+".log", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		for {
			started := time.Now()
			err := d.runOnce(ctx, file+".pid", log, args)
			if ctx.Err() != nil {
				return nil
			}
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() && time.Since(started) < startLimit {
				return fmt.Errorf("%s ended at its start (%w): %s", name, err, lastLine(log))
			}
			fmt.Fprintf(d.o.Out, "%s %s has ended (%v); it starts again in %s. Watch the console and futago status meanwhile.\n",
				time.Now().Format(time.TimeOnly), name, err, d.o.Restart)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(d.o.Restart):
			}
		}
	})
}

// runOnce runs a part to its end. pidFile is for kill $(cat …).
func (d *demo) runOnce(ctx context.Context, pidFile string, log *os.File, args []string) error {
	cmd := exec.CommandContext(ctx, d.exe, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Ctrl-C at the terminal is for the demonstration alone, which ends
		// its parts in order.
		Setpgid: true,
		// And when it is killed itself, nothing stays behind.
		Pdeathsig: syscall.SIGTERM,
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o600); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return cmd.Wait()
}

// lastLine returns the last line of a log: why a process ended.
func lastLine(f *os.File) string {
	var b [4096]byte
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	n, err := f.ReadAt(b[:min(int64(len(b)), end)], max(0, end-int64(len(b))))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	text := strings.TrimSpace(string(b[:n]))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
