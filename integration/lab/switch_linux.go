package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The largest frame: Ethernet header, VLAN tag and 1500 bytes, rounded up.
const maxFrame = 1600

// userSwitch is a learning switch in this process. Each host's eth0 is a TAP
// device whose other end is a file here; every frame goes through the link
// from its sender to its receiver.
type userSwitch struct {
	seed  uint64
	ports []*port
	wg    sync.WaitGroup

	mu    sync.RWMutex // guards table
	table map[uint64]int
}

type port struct {
	host  *Host
	tap   *os.File
	links []*wire // by index of the receiver; nil for itself
}

func newSwitch(seed uint64) *userSwitch {
	return &userSwitch{seed: seed, table: make(map[uint64]int)}
}

func (s *userSwitch) attach(h *Host) error {
	var tap *os.File
	err := h.ns.do(func() (err error) {
		tap, err = openTap(linkName)
		return err
	})
	if err != nil {
		return err
	}
	s.ports = append(s.ports, &port{host: h, tap: tap})
	err = h.withNetlink(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(linkName)
		if err != nil {
			return err
		}
		// A burst waits in the queue of the device until this process reads it.
		if err := nl.LinkSetTxQLen(link, 20000); err != nil {
			return err
		}
		return nl.LinkSetHardwareAddr(link, h.mac)
	})
	if err != nil {
		return err
	}
	s.table[macKey(h.mac)] = h.index
	return h.configure()
}

// openTap makes a TAP device in the namespace of the calling thread. It lives
// as long as the file.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	// struct ifreq: the name, then the flags.
	var req [40]byte
	copy(req[:unix.IFNAMSIZ-1], name)
	binary.NativeEndian.PutUint16(req[unix.IFNAMSIZ:], unix.IFF_TAP|unix.IFF_NO_PI)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&req[0])))
	if errno != 0 {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make a TAP device: %w", errno)
	}
	return os.NewFile(uintptr(fd), "tap"), nil
}

func (s *userSwitch) start(hosts []*Host) error {
	for _, p := range s.ports {
		p.links = make([]*wire, len(hosts))
		for _, to := range s.ports {
			if to != p {
				p.links[to.host.index] = newWire(s.seed, p.host.index, to.host.index, to.tap)
			}
		}
	}
	for _, p := range s.ports {
		s.wg.Go(func() { s.forward(p) })
	}
	return nil
}

// forward reads the frames that a host sends until its device is closed.
func (s *userSwitch) forward(p *port) {
	buf := make([]byte, maxFrame)
	for {
		n, err := p.tap.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n < 14 {
			continue
		}
		frame := buf[:n]
		src := macKey(frame[6:12])
		s.mu.RLock()
		at, known := s.table[src]
		to, found := s.table[macKey(frame[:6])]
		s.mu.RUnlock()
		if (!known || at != p.host.index) && frame[6]&1 == 0 {
			s.mu.Lock()
			s.table[src] = p.host.index // an address that moved, as floating ones do
			s.mu.Unlock()
		}
		if found && frame[0]&1 == 0 {
			if to != p.host.index {
				p.links[to].send(frame)
			}
			continue
		}
		for _, w := range p.links {
			if w != nil {
				w.send(frame)
			}
		}
	}
}

func macKey(mac []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(mac))<<32 | uint64(binary.BigEndian.Uint32(mac[2:]))
}

func (s *userSwitch) set(from, to *Host, l Link) error {
	s.ports[from.index].links[to.index].set(l)
	return nil
}

func (s *userSwitch) stats(from, to *Host) LinkStats {
	if from == to {
		return LinkStats{}
	}
	return s.ports[from.index].links[to.index].snapshot()
}

func (s *userSwitch) close() error {
	var errs []error
	for _, p := range s.ports {
		errs = append(errs, p.tap.Close())
	}
	s.wg.Wait()
	for _, p := range s.ports {
		for _, w := range p.links {
			if w != nil {
				w.close()
			}
		}
	}
	return errors.Join(errs...)
}
