//go:build !(linux && (amd64 || arm64) && !static)

package dl

import "errors"

// A static binary cannot open libraries: it has no dynamic linker.
func open(string) (uintptr, error) { return 0, errStatic }

func bind(uintptr, string, any) error { return errStatic }

var errStatic = errors.New("this binary was built without the means to load drivers")
