package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownerVar marks the processes of a lab in their environment.
const ownerVar = "FUTAGO_LAB_OWNER"

// scratchPrefix begins the names of scratch directories, which go on with the owner.
const scratchPrefix = "futago-lab-"

// owner names this process for good: a process id alone is used again.
func owner() (string, error) {
	pid := os.Getpid()
	start, err := startTime(pid)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d.%d", pid, start), nil
}

// ownerDead reports whether the process that a mark names is gone. A mark that
// cannot be read belongs to somebody else.
func ownerDead(mark string) bool {
	p, s, ok := strings.Cut(mark, ".")
	if !ok {
		return false
	}
	pid, err1 := strconv.Atoi(p)
	start, err2 := strconv.ParseUint(s, 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	now, err := startTime(pid)
	return err != nil && errors.Is(err, os.ErrNotExist) || err == nil && now != start
}

// startTime is field 22 of /proc/PID/stat: clock ticks since boot.
func startTime(pid int) (uint64, error) {
	f, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	if len(f) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is short", pid)
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// statFields returns the fields of /proc/PID/stat from the state on (field 3):
// those before it hold the name, in which anything may stand.
func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = os.ErrNotExist
		}
		return nil, err
	}
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil, fmt.Errorf("/proc/%d/stat is malformed", pid)
	}
	return strings.Fields(string(b[i+1:])), nil
}

// allProcesses yields the ids of the processes of the machine but zombies.
func allProcesses() iter.Seq[int] {
	return func(yield func(int) bool) {
		d, err := os.Open("/proc")
		if err != nil {
			return
		}
		defer d.Close()
		names, _ := d.Readdirnames(-1)
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			if f, err := statFields(pid); err != nil || len(f) == 0 || f[0] == "Z" || f[0] == "X" {
				continue
			}
			if !yield(pid) {
				return
			}
		}
	}
}

func makeScratch() (string, error) {
	mark, err := owner()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp("", scratchPrefix+mark+"-")
}

// Sweep removes what labs of dead processes left behind: grandchildren, mounts
// and scratch directories. [Open] calls it. Labs of live processes are not touched.
func Sweep() error {
	for pid := range allProcesses() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue // gone, or not ours to see
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if mark, ok := bytes.CutPrefix(v, []byte(ownerVar+"=")); ok && ownerDead(string(mark)) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		mark, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-")
		if !ownerDead(mark) {
			continue
		}
		for _, m := range mountsBelow(dir) {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
			}
		}
		// Another sweep may be at the same directory: gone is what we want.
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// mountsBelow lists the mount points under dir, innermost first.
func mountsBelow(dir string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var found []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			found = append([]string{fields[4]}, found...)
		}
	}
	return found
}
