//go:build linux && (amd64 || arm64) && !static

package host

import "github.com/ebitengine/purego"

func openLibrary(name string) (uintptr, error) {
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

// bind points a variable of a function type at a symbol.
func bind(handle uintptr, symbol string, function any) error {
	address, err := purego.Dlsym(handle, symbol)
	if err != nil {
		return err
	}
	purego.RegisterFunc(function, address)
	return nil
}
