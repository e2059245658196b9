package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hypertoken/internal/sabotage"
)

// followCode mends breaches whose code has moved to other files, as it was: it looks for the old
// lines of each hunk that does not apply in all Go files of the product, and writes the file that
// has them into the breach. It fails if a hunk is found nowhere, or in several places; such a
// breach has to be written anew.
func followCode(root string) error {
	breaches, err := sabotage.Load(root)
	if err != nil {
		return err
	}
	sources, err := productSources(root)
	if err != nil {
		return err
	}
	lost := 0
	for _, b := range breaches {
		if _, err := b.Apply(root); err == nil {
			continue
		}
		var moved, missing []string
		for k := range b.Hunks {
			h := &b.Hunks[k]
			if len(h.Find(sources[h.File])) == 1 {
				continue
			}
			var places []string
			for file, source := range sources {
				for _, line := range h.Find(source) {
					places = append(places, fmt.Sprintf("%s:%d", file, line))
				}
			}
			if len(places) != 1 {
				slices.Sort(places)
				missing = append(missing, fmt.Sprintf("%s: %v is in %d places: %v", h.File, h, len(places), places))
				continue
			}
			moved = append(moved, h.File+" -> "+places[0])
			h.File, _, _ = strings.Cut(places[0], ":")
			h.Line = h.Find(sources[h.File])[0]
		}
		slices.SortStableFunc(b.Hunks, func(x, y sabotage.Hunk) int {
			return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line))
		})
		if len(missing) > 0 {
			lost++
			fmt.Printf("%-22s LOST %s\n", b.Name, strings.Join(missing, "; "))
			continue
		}
		fmt.Printf("%-22s %s\n", b.Name, strings.Join(moved, ", "))
		if err := b.Write(root); err != nil {
			return err
		}
		if _, err := b.Apply(root); err != nil {
			lost++
			fmt.Printf("%-22s LOST %v\n", b.Name, err)
		}
	}
	if lost > 0 {
		return fmt.Errorf("breaches that have to be written anew: %d; %s/README.md says how", lost, sabotage.Folder)
	}
	return nil
}

// productSources reads the Go files of the product, by their paths from the root.
func productSources(root string) (map[string][]byte, error) {
	sources := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case e.IsDir() && rel != "." && (rel == "internal/sabotage" || strings.HasPrefix(e.Name(), ".") ||
			slices.Contains([]string{"node_modules", "target", "testdata", "bin"}, e.Name())):
			return fs.SkipDir
		case !e.Type().IsRegular() || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if !bytes.HasPrefix(source, []byte("// Code generated")) {
			sources[rel] = source
		}
		return err
	})
	return sources, err
}
