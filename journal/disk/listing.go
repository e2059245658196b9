package disk

import (
	"bytes"
	"cmp"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hypertoken/journal"
)

// firstListed is behind all names that begin with a zero byte. They are a host's own, and are listed
// if they are asked for.
const firstListed = "\x01"

// list reads a page of names. An engine whose rows are damaged is listed with its name alone, so
// that it can be deleted.
func (s *Store) list(it *pebble.Iterator, prefix, after string, limit int) (list []journal.Info, err error) {
	start := appendName(nil, cmp.Or(prefix, firstListed))
	if behind := append(appendName(nil, after), 0); bytes.Compare(behind, start) > 0 {
		start = behind
	}
	var ids []uint64
	for ok := it.SeekGE(start); ok && len(list) < limit; ok = it.Next() {
		key := it.Key()
		if key[0] != kindName || !strings.HasPrefix(string(key[1:]), prefix) {
			break
		}
		info := journal.Info{Name: parseName(key)}
		n, err := readName(it.Value(), key)
		if err == nil {
			info.Created = time.UnixMilli(n.created)
		}
		list, ids = append(list, info), append(ids, n.id)
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	for k := range list {
		r := engineReader{it: it, id: ids[k]}
		if err := r.info(&list[k]); err != nil && !isDamage(err) {
			return nil, err
		}
	}
	return list, nil
}

// info completes what a list tells of an engine.
func (r *engineReader) info(info *journal.Info) error {
	if r.id == 0 {
		return nil // the row of the name is damaged
	}
	b, err := r.newestBase()
	if err != nil {
		return err
	}
	g, isKept, err := r.newestGroup()
	if err != nil {
		return err
	}
	info.Sequence, info.Core, info.Bytes, info.Updated = b.Sequence, b.Core, b.bytes, time.UnixMilli(b.time)
	if isKept {
		info.Sequence, info.Bytes = max(info.Sequence, g.last()), max(info.Bytes, g.bytes)
		info.Updated = time.UnixMilli(max(b.time, g.time))
	}
	oldest, err := r.oldestBase()
	info.Bytes -= min(oldest.before(), info.Bytes)
	return err
}

// names counts the names that are stored.
func (s *Store) names(it *pebble.Iterator) (n int64, err error) {
	for ok := it.SeekGE([]byte{kindName}); ok && bytes.HasPrefix(it.Key(), []byte{kindName}); ok = it.Next() {
		select {
		case <-s.closing:
			return 0, errClosed
		default:
		}
		n++
	}
	return n, it.Error()
}
