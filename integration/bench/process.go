package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child whose use of memory and processor is watched.
type process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}

	mu   sync.Mutex // guards peak
	peak memory
}

// memory is what a process holds, in bytes. Anonymous memory is the process's
// own; file pages are those of mapped files (program, bolt), which the kernel
// takes back when somebody needs room.
type memory struct {
	Anonymous int64 `json:"anonymous"`
	File      int64 `json:"file"`
	Total     int64 `json:"total"`
}

// startProcess runs a program with its output in a file.
func startProcess(ctx context.Context, logPath, name string, args ...string) (*process, error) {
	return startCommand(exec.CommandContext(ctx, name, args...), logPath)
}

func startCommand(cmd *exec.Cmd, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, err
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() { // ends with the child
		_ = cmd.Wait()
		log.Close()
		close(p.done)
	}()
	go p.watch()
	return p, nil
}

// stop sends a signal and waits; what does not end is killed.
func (p *process) stop(sig os.Signal) {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(25 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// watch keeps the greatest memory seen, until the process ends.
func (p *process) watch() {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-t.C:
			if m, err := readMemory(p.cmd.Process.Pid); err == nil {
				p.mu.Lock()
				p.peak = memory{max(p.peak.Anonymous, m.Anonymous), max(p.peak.File, m.File), max(p.peak.Total, m.Total)}
				p.mu.Unlock()
			}
		}
	}
}

// takePeak returns the greatest memory since the last call, part by part.
func (p *process) takePeak() memory {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.peak
	p.peak = memory{}
	return m
}

// readMemory reads /proc/PID/status.
func readMemory(pid int) (m memory, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "RssAnon:":
			m.Anonymous = n << 10
		case "RssFile:", "RssShmem:":
			m.File += n << 10
		}
	}
	m.Total = m.Anonymous + m.File
	return m, nil
}

// cpu returns the processor time that a process has used.
func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	u, _ := strconv.ParseInt(f[11], 10, 64)
	s, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(u+s) * (time.Second / 100) // USER_HZ is 100 on Linux
}

// treeCPU is the processor time of a process and of its living children.
func treeCPU(pid int) time.Duration {
	sum := cpu(pid)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return sum
	}
	for f := range strings.FieldsSeq(string(b)) {
		if child, err := strconv.Atoi(f); err == nil {
			sum += cpu(child)
		}
	}
	return sum
}

// selfCPU is the processor time of this process.
func selfCPU() time.Duration { return cpu(os.Getpid()) }

// written is how many bytes a process has caused to be written to disks.
func written(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(field(string(b), "write_bytes"), 10, 64)
	return n
}
