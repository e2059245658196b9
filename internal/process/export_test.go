package process

// OnlyBase makes go-plugin's directories be made in one place, until restore is called.
func OnlyBase(dir string) (restore func()) {
	was := bases
	bases = func() []string { return []string{dir} }
	return func() { bases = was }
}
