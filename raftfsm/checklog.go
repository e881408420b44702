package raftfsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// CheckLog reads the whole log of a member that does not run, in its data
// directory dir: the pages, and each entry with its checksum. It returns the
// first and the last entry, 0 and 0 for none. What is damaged is CodeCorrupt.
func CheckLog(dir string) (first, last uint64, err error) {
	path := filepath.Join(dir, "raft.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err := checkBolt(path); err != nil {
		return 0, 0, corruptLog(path, err)
	}
	b, err := raftboltdb.New(raftboltdb.Options{
		Path: path, MsgpackUseNewTimeFormat: true, BoltOptions: &bbolt.Options{Timeout: time.Second, ReadOnly: true},
	})
	if err != nil {
		return 0, 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	g := &guardedLog{LogStore: b, recent: newRecentLogs(0), path: path, fail: func(error) {}}
	if first, err = g.FirstIndex(); err != nil {
		return 0, 0, err
	}
	if last, err = g.LastIndex(); err != nil || first == 0 {
		return 0, 0, err
	}
	var l raft.Log
	for i := first; i <= last; i++ {
		switch err := g.GetLog(i, &l); {
		case errors.Is(err, raft.ErrLogNotFound):
			return first, last, corruptLog(path, fmt.Errorf("entry %d is missing", i))
		case err != nil:
			return first, last, err
		}
	}
	return first, last, nil
}
