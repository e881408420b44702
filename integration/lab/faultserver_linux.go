package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The server of a faulty disk is a process of its own. In the test's process
// a thread that touches the disk could wait for the server while the Go runtime
// waits for that thread, and a test that is killed with a file open would wait
// for itself for ever.

// diskVar asks a run of the test binary to serve a disk: backing directory and
// mount point, with diskSeparator between.
const diskVar = "FUTAGO_LAB_DISK"

// diskRequest is one line to the server; diskReply is its answer.
type diskRequest struct {
	Fault *DiskFault `json:"fault,omitempty"` // nil only asks
}

type diskReply struct {
	Error   string `json:"error,omitempty"`
	Waiting int    `json:"waiting"`
	Writes  uint64 `json:"writes"`
	Syncs   uint64 `json:"syncs"`
}

// serveDisk mounts a disk and obeys until in ends, as it does when the test
// ends in whatever way. Then it unmounts.
func serveDisk(backing, path string, in io.Reader, out io.Writer) error {
	reply := json.NewEncoder(out)
	g := &gate{changed: make(chan struct{})}
	server, err := mountFaulty(backing, path, g)
	if err != nil {
		return reply.Encode(diskReply{Error: err.Error()})
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve()
	}()
	if err := server.WaitMount(); err != nil {
		return reply.Encode(diskReply{Error: err.Error()})
	}
	requests := json.NewDecoder(in)
	for {
		if err := reply.Encode(g.status()); err != nil {
			break
		}
		var q diskRequest
		if err := requests.Decode(&q); err != nil {
			break
		}
		if q.Fault != nil {
			g.set(*q.Fault)
		}
	}
	g.set(DiskFault{})
	if err := server.Unmount(); err != nil {
		// Somebody has a file open. Detach: who is left gets errors when this process ends.
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		return nil
	}
	<-served
	return nil
}

func mountFaulty(backing, path string, g *gate) (*fuse.Server, error) {
	root, err := fs.NewLoopbackRoot(backing)
	if err != nil {
		return nil, fmt.Errorf("loop back to %s: %w", backing, err)
	}
	second := time.Second
	raw := fs.NewNodeFS(root, &fs.Options{AttrTimeout: &second, EntryTimeout: &second})
	server, err := fuse.NewServer(&faultFS{RawFileSystem: raw, gate: g}, path, &fuse.MountOptions{
		FsName: "lab", Name: "faulty", DirectMountStrict: true, AllowOther: true,
		// Pass-through would let the kernel write past the faults.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		MaxWrite:             1 << 20,
		Logger:               log.New(os.Stderr, "", 0),
	})
	if err != nil {
		return nil, fmt.Errorf("mount a FUSE file system: %w", err)
	}
	return server, nil
}

// gate is passed by each write and flush: it waits, fails or lets through.
type gate struct {
	mu      sync.Mutex // guards what is below
	fault   DiskFault
	changed chan struct{} // closed by set
	count   diskReply
}

func (g *gate) set(f DiskFault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = f
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *gate) status() diskReply {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

func (g *gate) pass(sync bool) fuse.Status {
	g.mu.Lock()
	if sync {
		g.count.Syncs++
	} else {
		g.count.Writes++
	}
	for g.fault.Hang {
		changed := g.changed
		g.count.Waiting++
		g.mu.Unlock()
		<-changed
		g.mu.Lock()
		g.count.Waiting--
	}
	wait, errno := g.fault.SlowWrite, g.fault.FailWrite
	if sync {
		wait, errno = g.fault.SlowSync, g.fault.FailSync
	}
	g.mu.Unlock()
	if wait > 0 {
		time.Sleep(wait)
	}
	return fuse.Status(errno)
}

// faultFS puts the gate before every call that changes the disk.
type faultFS struct {
	fuse.RawFileSystem
	gate *gate
}

func (f *faultFS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if s := f.gate.pass(false); !s.Ok() {
		return 0, s
	}
	return f.RawFileSystem.Write(cancel, in, data)
}

func (f *faultFS) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	if s := f.gate.pass(false); !s.Ok() {
		return 0, s
	}
	return f.RawFileSystem.Writev(cancel, in, data)
}

func (f *faultFS) CopyFileRange(<-chan struct{}, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS // the caller copies by reads and writes
}

func (f *faultFS) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if s := f.gate.pass(true); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Fsync(cancel, in)
}

func (f *faultFS) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if s := f.gate.pass(true); !s.Ok() {
		return s
	}
	return f.RawFileSystem.FsyncDir(cancel, in)
}

func (f *faultFS) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if s := f.gate.pass(false); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Fallocate(cancel, in)
}

func (f *faultFS) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if s := f.gate.pass(false); !s.Ok() {
		return s
	}
	return f.RawFileSystem.SetAttr(cancel, in, out)
}

func (f *faultFS) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if s := f.gate.pass(false); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Create(cancel, in, name, out)
}

func (f *faultFS) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if s := f.gate.pass(false); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Mkdir(cancel, in, name, out)
}

func (f *faultFS) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if s := f.gate.pass(false); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Unlink(cancel, in, name)
}

func (f *faultFS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if s := f.gate.pass(false); !s.Ok() {
		return s
	}
	return f.RawFileSystem.Rename(cancel, in, from, to)
}
