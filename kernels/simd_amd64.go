package kernels

import features "golang.org/x/sys/cpu"

//go:generate sh -c "cd internal/asmgen && go run . > ../../simd_amd64.s.new && mv ../../simd_amd64.s.new ../../simd_amd64.s"

// vectorUnits are the CPU's, the fastest first.
func vectorUnits() (units []*vectorUnit) {
	if features.X86.HasAVX512F && features.X86.HasAVX512DQ {
		units = append(units, &avx512)
	}
	if features.X86.HasAVX2 && features.X86.HasBMI2 {
		units = append(units, &avx2)
	}
	return units
}

var avx2 = vectorUnit{
	name: "avx2", lanes: 8, chains: 4, mt: 14, sets: 2,
	pace: paceAVX2, paced: 4 * 16, rotate: 3, step48: 16,
	mtWords: mtWordsAVX2,
	filters: [vectorKernels]func(*vectorArgs){
		kernelMt:         mtRowsAVX2,
		kernelXorshift32: xorshift32AVX2,
		kernelLcg32:      lcg32AVX2,
		kernelLcg31:      lcg31AVX2,
		kernelLcg48:      lcg48AVX2,
	},
}

var avx512 = vectorUnit{
	name: "avx512", lanes: 16, chains: 8, mt: 24, sets: 1,
	pace: paceAVX512, paced: 4 * 32, rotate: 1, step48: 4,
	mtWords: mtWordsAVX512,
	filters: [vectorKernels]func(*vectorArgs){
		kernelMt:         mtRowsAVX512,
		kernelXorshift32: xorshift32AVX512,
		kernelLcg32:      lcg32AVX512,
		kernelLcg31:      lcg31AVX512,
		kernelLcg48:      lcg48AVX512,
	},
}

//go:noescape
func paceAVX2(a *vectorArgs)

//go:noescape
func mtWordsAVX2(a *vectorArgs)

//go:noescape
func mtRowsAVX2(a *vectorArgs)

//go:noescape
func xorshift32AVX2(a *vectorArgs)

//go:noescape
func lcg32AVX2(a *vectorArgs)

//go:noescape
func lcg31AVX2(a *vectorArgs)

//go:noescape
func lcg48AVX2(a *vectorArgs)

//go:noescape
func paceAVX512(a *vectorArgs)

//go:noescape
func mtWordsAVX512(a *vectorArgs)

//go:noescape
func mtRowsAVX512(a *vectorArgs)

//go:noescape
func xorshift32AVX512(a *vectorArgs)

//go:noescape
func lcg32AVX512(a *vectorArgs)

//go:noescape
func lcg31AVX512(a *vectorArgs)

//go:noescape
func lcg48AVX512(a *vectorArgs)
