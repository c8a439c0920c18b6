package kernels

import "strings"

// compatibles are the generators of the original Python system under the names
// compat:NAME and its three suffixes, bit for bit as its fixed-skip kernels ran
// them, with the skip also before the first draw. Where they differ from
// the published generators, the definition says so.
var compatibles = withVariants(
	&compatXorshift32,
	&compatXorshift64,
	&compatXorshift128,
	&compatPcg32,
	&compatLcg32,
	&compatJavaLcg,
	&compatMinstd,
	&compatMt19937,
	&compatXoshiro256pp,
	&compatPhilox4x32,
	&compatSfc64,
)

// Whether a generator skips any distance in constant time.
const (
	jumps = true
	steps = false
)

const compatSource = "the original Python system's kernels; checked by its published vectors and golden cases"

// compatible completes a definition with what all of the original's have.
func compatible(name string, seedBits, stateBits, widthBits int, jumping bool, text string, open func() stream) definition {
	return definition{
		Generator: Generator{
			Name:       "compat:" + name,
			Met:        "job files and result files of the original system, family " + name,
			SeedBits:   seedBits,
			StateBits:  stateBits,
			WidthBits:  widthBits,
			Definition: text + leadSkipText,
			Source:     compatSource,
		},
		leadSkip:   true,
		jumps:      jumping,
		setupSteps: 1,
		open:       open,
	}
}

// withKernel is the definition with the kernel that accelerators run.
func (d definition) withKernel(k streamKernel) definition {
	d.kernel = k
	return d
}

// withVariants adds the suffixed names of each: _reverse is the same arithmetic
// with the draw list reversed, _hybrid a skip that varies.
func withVariants(forward ...*definition) []*definition {
	all := forward
	for _, d := range forward {
		hybrid := *d
		hybrid.Definition = strings.Replace(d.Definition, leadSkipText, " The skip varies (mode hybrid).", 1)
		hybrid.leadSkip, hybrid.hybrid = false, true
		for _, v := range []struct {
			suffix string
			definition
		}{{"_reverse", *d}, {"_hybrid", hybrid}, {"_hybrid_reverse", hybrid}} {
			variant := v.definition
			variant.Name += v.suffix
			variant.Met += v.suffix
			if strings.HasSuffix(v.suffix, "_reverse") {
				variant.Definition += " The draw list is taken in reverse order (direction reverse-window)."
				variant.reversed = true
			}
			all = append(all, &variant)
		}
	}
	return all
}

// leadSkipText ends the definitions of the names without _hybrid.
const leadSkipText = " The skip also applies before the first draw."
