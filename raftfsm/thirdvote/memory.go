package thirdvote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

const memoryFormat = 1

// memory is what a data directory must not forget about the third vote.
type memory struct {
	Format   int               `json:"format"`
	Identity register.Identity `json:"identity"`
	Mark     rules.Mark        `json:"mark"`
	Admitted bool              `json:"admitted"`
}

// loadMemory reads the file. A file that does not exist is an empty memory.
func loadMemory(path string, id register.Identity) (memory, error) {
	m := memory{Format: memoryFormat, Identity: id}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("third vote: %w", err)
	}
	var got memory
	if err := json.Unmarshal(b, &got); err != nil {
		return m, futago.Errorf(futago.CodeCorrupt, "file %s is damaged", path).Wrap(err).
			WithAction("join this manager again with an empty data directory")
	}
	switch {
	case got.Format != memoryFormat:
		return m, futago.Errorf(futago.CodeIncompatible, "file %s has format %d", path, got.Format).
			WithAction("start the version that wrote it, or a newer one")
	case got.Identity != id:
		return m, futago.Errorf(futago.CodeCorrupt, "file %s belongs to the data directory %s, not to %s", path, got.Identity, id).
			WithAction("join this manager again with an empty data directory")
	}
	return got, nil
}

// save writes the file whole and durably: a new file, flushed, in the place of
// the old one, and the directory flushed.
func (m memory) save(path string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	if _, err = f.Write(append(b, '\n')); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
