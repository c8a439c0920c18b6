// Package src is the source of the accelerators' kernels, in a dialect of C that every
// one of their compilers takes: a file for each kind of generator between prelude.h
// and search.h. What tests a seed stands between those two: written for the search
// at hand, or in general.cu for any search, of which the PTX is made.
package src

import "embed"

//go:generate ptx/generate ptx

// Files are the sources, and below ptx the general form of each kernel as PTX, which
// NVIDIA's driver compiles by itself.
//
//go:embed *.h general.cu ptx/*.ptx
var Files embed.FS

// Text is a file, which has to be there.
func Text(name string) []byte {
	text, err := Files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return text
}
