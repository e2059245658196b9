// Package version names this build.
package version

import "runtime/debug"

// Version is the version of this module and of the npm package: the newest one in CHANGELOG.md. The tag of a release is
// v and this.
const Version = "0.1.0"

// String returns [Version] and, as far as the build recorded it, the revision that this was built
// from: "0.1.0 1795c2a…", with "+dirty" behind the revision if files had been changed.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Version
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = " " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if revision == "" {
		return Version
	}
	return Version + revision + dirty
}
