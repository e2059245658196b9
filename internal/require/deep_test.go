package require

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestADeepRunHasEverything(t *testing.T) {
	all := []int{0, 1, 2, 3, 4, 5, 6}
	for _, c := range []struct {
		name, variable string
		deep           bool
		rounds         int
		sample         []int
	}{
		{"quick", "", false, 3, []int{0, 3, 6}},
		{"deep", "1", true, 50, all},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(deepVariable, c.variable)
			if IsDeep() != c.deep {
				t.Errorf("IsDeep is %v", IsDeep())
			}
			if n := Rounds(3, 50); n != c.rounds {
				t.Errorf("Rounds gives %d, want %d", n, c.rounds)
			}
			if s := Sample(3, all); !slices.Equal(s, c.sample) {
				t.Errorf("Sample gives %v, want %v", s, c.sample)
			}
			ran := false
			t.Run("a deep test", func(t *testing.T) {
				Deep(t)
				ran = true
			})
			if ran != c.deep {
				t.Errorf("a test that calls Deep ran: %v", ran)
			}
		})
	}
}

// Each test that does less with the race detector is in the list of those that `make test-deep`
// runs without it too.
func TestWhatIsNotRacedIsListed(t *testing.T) {
	root := filepath.Join("..", "..")
	declares, asks := regexp.MustCompile(`^func (Test\w+)\(`), regexp.MustCompile(`\brequire\.(Unraced|IsRaced)\(`)
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == "target") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		test := ""
		for line := range strings.Lines(string(b)) {
			if m := declares.FindStringSubmatch(line); m != nil {
				test = m[1]
			}
			if asks.MatchString(line) {
				found = append(found, test)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^UNRACED = (.*)$`).FindSubmatch(b)
	if m == nil {
		t.Fatal("the Makefile has no UNRACED")
	}
	listed := strings.Split(string(m[1]), "|")
	slices.Sort(found)
	slices.Sort(listed)
	if found = slices.Compact(found); !slices.Equal(found, listed) {
		t.Errorf("UNRACED in the Makefile lists %v, the tests are %v", listed, found)
	}
}
