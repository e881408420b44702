package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DiskFault is how a [FaultyDisk] misbehaves. The zero value is a good disk.
// Reads are not touched: the kernel serves most of them from its cache anyway.
type DiskFault struct {
	// SlowWrite and SlowSync are added to each write, and to each flush
	// (fsync, fdatasync). Writes include creating, removing, renaming,
	// truncating and allocating.
	SlowWrite, SlowSync time.Duration
	// FailWrite and FailSync, when not 0, are what writes and flushes return
	// without doing anything, for example EIO, ENOSPC or EROFS.
	FailWrite, FailSync syscall.Errno
	// Hang lets writes and flushes wait until the next Set. A process that
	// waits so cannot even be killed, as with a real disk that hangs.
	Hang bool
}

// FaultyDisk is a directory of the machine seen through a file system of the
// lab that can be slow, fail and hang. Since it is FUSE and no block device,
// what a process wrote without a flush outlives the process, and each call costs
// some 30 µs more than on the directory itself.
type FaultyDisk struct {
	path    string
	backing string

	mu      sync.Mutex // guards what is below: one request at a time
	cmd     *exec.Cmd
	request io.WriteCloser
	reply   *json.Decoder
	stderr  strings.Builder
}

// FaultyDisk gives the host a disk whose faults can be set. Its content is kept
// in a directory beside it, see [FaultyDisk.Backing]. The test binary must have
// called [Main].
func (h *Host) FaultyDisk() (*FaultyDisk, error) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return nil, fmt.Errorf("%w: faulty disks need FUSE: %w", ErrUnsupported, err)
	}
	if !mainCalled() {
		return nil, errors.New("faulty disks are served by a second run of this binary: call lab.Main in TestMain")
	}
	base, err := h.mountPoint("faulty")
	if err != nil {
		return nil, err
	}
	d := &FaultyDisk{path: filepath.Join(base, "disk"), backing: filepath.Join(base, "backing")}
	for _, dir := range []string{d.path, d.backing} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := h.lab.mount(d, d.start); err != nil {
		return nil, err
	}
	return d, nil
}

// start runs the server and waits until the disk is mounted.
func (d *FaultyDisk) start() error {
	// Its end is that of the pipe, not of a context: it must unmount first.
	d.cmd = exec.CommandContext(context.Background(), "/proc/self/exe")
	d.cmd.Env = append(os.Environ(), diskVar+"="+d.backing+diskSeparator+d.path)
	d.cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for the test
	d.cmd.Stderr = &d.stderr
	in, err := d.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	d.request, d.reply = in, json.NewDecoder(out)
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start the server of the disk: %w", err)
	}
	var r diskReply
	err = d.reply.Decode(&r)
	switch {
	case err == nil && r.Error == "":
		return nil
	case err == nil:
		err = errors.New(r.Error)
	}
	_ = in.Close()
	_ = d.cmd.Wait()
	return fmt.Errorf("server of the disk: %w %s", err, d.stderr.String())
}

// Path is where the disk is mounted, for all processes of the machine.
func (d *FaultyDisk) Path() string { return d.path }

// Backing is the directory that holds the content. Test code reads and damages
// files there without meeting the faults; not while a process has them open.
func (d *FaultyDisk) Backing() string { return d.backing }

func (d *FaultyDisk) ask(q diskRequest) (diskReply, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var r diskReply
	if err := json.NewEncoder(d.request).Encode(q); err != nil {
		return r, fmt.Errorf("server of the disk: %w", err)
	}
	if err := d.reply.Decode(&r); err != nil {
		return r, fmt.Errorf("server of the disk: %w", err)
	}
	return r, nil
}

// Set makes the disk behave so from now on, and lets go what waits in a hang.
func (d *FaultyDisk) Set(f DiskFault) error {
	_, err := d.ask(diskRequest{Fault: &f})
	return err
}

// DiskCalls counts the calls that a disk has served.
type DiskCalls struct {
	Writes, Syncs uint64
	// Waiting is how many calls wait now in a hang.
	Waiting int
}

// Calls tells what the disk has served so far.
func (d *FaultyDisk) Calls() (DiskCalls, error) {
	r, err := d.ask(diskRequest{})
	return DiskCalls{Writes: r.Writes, Syncs: r.Syncs, Waiting: r.Waiting}, err
}

func (d *FaultyDisk) release() { _ = d.Set(DiskFault{}) }

func (d *FaultyDisk) unmount() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.request.Close()
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("server of the disk: %w %s", err, d.stderr.String())
	}
	return nil
}
