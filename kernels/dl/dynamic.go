//go:build linux && (amd64 || arm64) && !static

package dl

import "github.com/ebitengine/purego"

func open(name string) (uintptr, error) {
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

func bind(handle uintptr, symbol string, function any) error {
	address, err := purego.Dlsym(handle, symbol)
	if err != nil {
		return err
	}
	purego.RegisterFunc(function, address)
	return nil
}
