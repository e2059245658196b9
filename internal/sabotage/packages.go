package sabotage

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// ImportPaths returns the import paths of the packages in folders, which are paths from root. The
// go command does not take a folder of journal/disk or journal/jetstream, because these are modules
// of their own. It takes the import path, because the module in root requires them.
func ImportPaths(root string, folders []string) ([]string, error) {
	list := exec.Command("go", "list", "-m")
	list.Dir = root
	out, err := list.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("go list -m: %w: %s", err, exit.Stderr)
	} else if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	module := strings.TrimSpace(string(out))
	paths := make([]string, len(folders))
	for k, folder := range folders {
		paths[k] = module + "/" + folder
	}
	return paths, nil
}
