package torture

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// A fault that this machine does not allow is left out, and the report says so.
func TestSkippedFault(t *testing.T) {
	t.Parallel()
	why := errors.New("only root may do that")
	torture := &clusterTorture{config: ClusterConfig{Faults: []ClusterKind{KillNode, FillDisk}}}
	if err := torture.skipFaults(nil); err != nil || len(torture.config.Faults) != 2 {
		t.Errorf("nothing was to be skipped: %v, %v", torture.config.Faults, err)
	}
	if err := torture.skipFaults(why); err != nil || !slices.Equal(torture.config.Faults, []ClusterKind{KillNode}) {
		t.Errorf("the faults are %v, %v", torture.config.Faults, err)
	}
	var text strings.Builder
	_, err := torture.report.WriteTo(&text)
	if err != nil || !strings.Contains(text.String(), "fill-disk: only root may") {
		t.Errorf("the report is %s (%v)", &text, err)
	}
	torture.config.Faults = []ClusterKind{FillDisk}
	if err := torture.skipFaults(why); !errors.Is(err, why) {
		t.Errorf("with no other fault: %v", err)
	}
}
