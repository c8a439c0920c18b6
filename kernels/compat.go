package kernels

// compatibles are the generators of the original Python system under the names
// compat:NAME and compat:NAME_reverse, bit for bit as its fixed-skip kernels
// ran them, with the skip also before the first draw. Where they differ from
// the published generators, the definition says so.
var compatibles = withReverses(
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
			Definition: text + " The skip also applies before the first draw.",
			Source:     compatSource,
		},
		leadSkip:   true,
		jumps:      jumping,
		setupSteps: 1,
		open:       open,
	}
}

// withReverses adds the _reverse name of each: the same arithmetic with the
// draw list reversed.
func withReverses(forward ...*definition) []*definition {
	all := forward
	for _, d := range forward {
		r := *d
		r.Name += "_reverse"
		r.Met += "_reverse"
		r.Definition += " The draw list is taken in reverse order (direction reverse-window)."
		r.reversed = true
		all = append(all, &r)
	}
	return all
}
