package kernels

var compatLcg32 = func() definition {
	d := compatible("lcg32", 32, 32, 31, jumps,
		"x=seed (32 bit). x=(1103515245*x+12345) mod 2147483647, in 64-bit arithmetic; output x. "+
			"The ANSI C generator is modulo 2^31.",
		func() stream { return new(compatLcg32Stream) })
	d.most = mersenne31 - 1
	d.backward = compatLcg32Back
	return d
}()

var compatJavaWord = &linear{step: javaStep, bits: 48, shift: 16}

var compatJavaLcg = func() definition {
	d := compatible("java_lcg", 48, 48, 32, jumps,
		"s=seed mod 2^48. s=(0x5DEECE66D*s+0xB) mod 2^48; output bits 16 to 47 of s (32 bit). "+
			"java.util.Random first XORs the seed with 0x5DEECE66D.",
		compatJavaWord.open)
	d.backward = compatJavaWord.back
	return d
}()

var compatMinstd = func() definition {
	d := compatible("minstd", 32, 31, 31, jumps,
		"x=seed mod 2147483647, 0 becomes 1. x=48271*x mod 2147483647; output x.",
		func() stream { return new(minstdStream) })
	d.least, d.most = minstdRand.least, minstdRand.most
	d.backward = minstdRand.backward
	return d
}()

var compatPcg32 = func() definition {
	d := compatible("pcg32", 64, 64, 32, jumps,
		"x=seed, without the published seeding step. Each output: old=x; x=x*6364136223846793005+1442695040888963407; "+
			"w=low 32 bits of ((old>>18)^old)>>27; output w rotated right by old>>59 (32 bit).",
		func() stream { return new(compatPcg32Stream) })
	d.backward = func() backStream { return &rewinder{start: itself, seedOf: itself, before: pcg32Before} }
	d.kernel = streamKernel{file: "pcg32", variant: 1}
	return d
}()

var compatLcg32Step = affine31{1103515245, 12345}

func compatLcg32Back() backStream {
	inverse := powMod(compatLcg32Step.mul, mersenne31-2, mersenne31)
	return &rewinder{start: mod31, seedOf: itself, before: func(state uint64) (earlier, output uint64) {
		return mod31(mod31(state+mersenne31-compatLcg32Step.add) * inverse), state
	}}
}

type compatLcg32Stream struct {
	x    uint64
	leap leap31
}

func (g *compatLcg32Stream) seed(seed uint64) { g.x = uint64(uint32(seed)) }

func (g *compatLcg32Stream) skip(n uint64) {
	if n > 0 { // a seed may be above the modulus
		g.x = g.leap.by(compatLcg32Step, n).of(g.x)
	}
}

func (g *compatLcg32Stream) fill(dst []uint64) {
	x := g.x
	for i := range dst {
		x = compatLcg32Step.of(x)
		dst[i] = x
	}
	g.x = x
}

// A compatPcg32Stream is a [pcg32Stream] with the seed as its state.
type compatPcg32Stream struct{ pcg32Stream }

func (g *compatPcg32Stream) seed(seed uint64) { g.x = seed }
