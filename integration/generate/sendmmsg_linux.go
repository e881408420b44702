package generate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one system call sends.
const batchSize = 64

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// batch is a set of datagrams that are sent by one system call, with buffers
// that are used again and again. It must stay on the heap, where things do not move.
type batch struct {
	bufs [batchSize][]byte
	iov  [batchSize]unix.Iovec
	msgs [batchSize]mmsghdr
}

func newBatch() *batch {
	b := new(batch)
	for i := range b.bufs {
		b.bufs[i] = make([]byte, 0, 2048)
		b.msgs[i].hdr.Iov = &b.iov[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

// destination is a socket address as the kernel reads it.
type destination struct {
	raw  [unix.SizeofSockaddrInet6]byte
	size uint32
}

// newDestination makes an address for a socket that is IPv6 with mapped IPv4
// addresses, or plain IPv4.
func newDestination(a netip.AddrPort, socket6 bool) *destination {
	d := new(destination)
	port := a.Port()
	if !socket6 {
		d.size = unix.SizeofSockaddrInet4
		*(*uint16)(unsafe.Pointer(&d.raw[0])) = unix.AF_INET
		d.raw[2], d.raw[3] = byte(port>>8), byte(port)
		ip := a.Addr().Unmap().As4()
		copy(d.raw[4:], ip[:])
		return d
	}
	d.size = unix.SizeofSockaddrInet6
	*(*uint16)(unsafe.Pointer(&d.raw[0])) = unix.AF_INET6
	d.raw[2], d.raw[3] = byte(port>>8), byte(port)
	ip := a.Addr().As16()
	copy(d.raw[8:], ip[:])
	return d
}

// batchSocket sends batches over a datagram socket.
type batchSocket struct {
	raw     syscall.RawConn
	socket6 bool
}

func newBatchSocket(c net.PacketConn) (*batchSocket, error) {
	u, ok := c.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("a %T is no UDP socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &batchSocket{raw: raw}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var domain int
		domain, inner = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		s.socket6 = domain == unix.AF_INET6
	})
	return s, errors.Join(err, inner)
}

// send sends the first n datagrams of the batch to one address, all of them.
func (s *batchSocket) send(b *batch, n int, to *destination) error {
	for i := range n {
		b.iov[i].Base = &b.bufs[i][0]
		b.iov[i].SetLen(len(b.bufs[i]))
		b.msgs[i].hdr.Name = &to.raw[0]
		b.msgs[i].hdr.Namelen = to.size
	}
	for from := 0; from < n; {
		var errno unix.Errno
		err := s.raw.Write(func(fd uintptr) bool {
			var sent uintptr
			sent, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.msgs[from])), uintptr(n-from), 0, 0, 0)
			if errno == 0 {
				from += int(sent) //nolint:gosec // at most batchSize
			}
			return errno != unix.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case errno == 0, errno == unix.EINTR, errno == unix.ENOBUFS:
		default:
			return fmt.Errorf("send a batch: %w", errno)
		}
	}
	return nil
}
