package thirdvote

import (
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/rules"
)

const memoryFormat = 1

// memory is what a data directory must not forget about the third vote. Its
// file has a checksum: a mark that a flipped bit had lowered would let a register
// that went back pass.
type memory struct {
	Format   int               `json:"format"`
	Identity register.Identity `json:"identity"`
	Mark     rules.Mark        `json:"mark"`
	Admitted bool              `json:"admitted"`
}

// loadMemory reads the file. A file that does not exist is an empty memory. A
// damaged one is CodeCorrupt: what was seen is not known any more, and neither
// is whether this directory has a say.
func loadMemory(path string, id register.Identity) (memory, error) {
	m := memory{Format: memoryFormat, Identity: id}
	const action = "move this manager's data directory away and join again with an empty one"
	b, err := atomicfile.ReadSummed(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case futago.CodeOf(err) == futago.CodeCorrupt:
		return m, futago.Errorf(futago.CodeCorrupt, "the third vote's file is damaged").Wrap(err).WithAction(action)
	case err != nil:
		return m, futago.Errorf(futago.CodeInternal, "the third vote's file cannot be read").Wrap(err)
	}
	var got memory
	switch err := json.Unmarshal(b, &got); {
	case err != nil:
		return m, futago.Errorf(futago.CodeCorrupt, "file %s is damaged", path).Wrap(err).WithAction(action)
	case got.Format != memoryFormat:
		return m, futago.Errorf(futago.CodeIncompatible, "file %s has format %d", path, got.Format).
			WithAction("start the version that wrote it, or a newer one")
	case got.Identity != id:
		return m, futago.Errorf(futago.CodeCorrupt, "file %s belongs to the data directory %s, not to %s", path, got.Identity, id).
			WithAction(action)
	}
	return got, nil
}

// save writes the file whole and durably.
func (m memory) save(path string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return atomicfile.WriteSummed(path, b, 0o600)
}
