package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// disk is a file system that the lab mounted.
type disk interface {
	release() // let go whatever waits for the disk
	unmount() error
}

// mountPoint makes an empty directory for a disk of the host.
func (h *Host) mountPoint(kind string) (string, error) {
	return os.MkdirTemp(h.lab.dir, h.name+"-"+kind+"-")
}

// mount runs fn, which mounts, and keeps the disk for Close.
func (l *Lab) mount(d disk, fn func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if err := fn(); err != nil {
		return err
	}
	l.disks = append(l.disks, d)
	return nil
}

// SmallDisk is a file system of limited size, in memory.
type SmallDisk struct {
	path string
	mu   sync.Mutex
	fill string // the file that takes the room
}

// SmallDisk gives the host a disk of so many bytes (rounded up to pages).
func (h *Host) SmallDisk(size int64) (*SmallDisk, error) {
	path, err := h.mountPoint("disk")
	if err != nil {
		return nil, err
	}
	d := &SmallDisk{path: path, fill: filepath.Join(path, ".filled")}
	err = h.lab.mount(d, func() error {
		opts := fmt.Sprintf("size=%d,mode=0700", size)
		if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, opts); err != nil {
			return fmt.Errorf("mount a tmpfs: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Path is where the disk is mounted, for all processes of the machine.
func (d *SmallDisk) Path() string { return d.path }

// Room is how many bytes can still be written.
func (d *SmallDisk) Room() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", d.path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // far below the limit
}

// Fill takes all room but leave bytes (rounded down to pages).
func (d *SmallDisk) Fill(leave int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := os.OpenFile(d.fill, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// Somebody else may write or delete meanwhile: go on until it is full.
	for range 100 {
		room, err := d.Room()
		if err != nil {
			return err
		}
		if room <= leave {
			return nil
		}
		size, err := f.Seek(0, 2)
		if err != nil {
			return err
		}
		err = unix.Fallocate(int(f.Fd()), 0, size, room-leave)
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("allocate %d bytes: %w", room-leave, err)
		}
	}
	return errors.New("the disk does not get full")
}

// Free gives the room back that Fill took.
func (d *SmallDisk) Free() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.Remove(d.fill); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (d *SmallDisk) release() {}

func (d *SmallDisk) unmount() error {
	if err := unix.Unmount(d.path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", d.path, err)
	}
	return nil
}
