package kernels

const javaSeeding = "java.util.Random: s=(seed^0x5DEECE66D)&(2^48-1); next(b): s=(s*0x5DEECE66D+11) mod 2^48, return s>>(48-b). "

var javaRandomNext32 = definition{
	Generator: Generator{
		Name:       "java_random_next32",
		Met:        "Java, Kotlin, Scala: new Random(seed).nextInt(), as an unsigned number",
		SeedBits:   64,
		WidthBits:  32,
		Definition: javaSeeding + "Output next(32), unsigned. Only the low 48 seed bits matter.",
		Source:     "OpenJDK 17.0.21 java.util.Random.next(32)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       func() stream { return new(javaStream) },
}

var javaRandomNextInt1000 = definition{
	Generator: Generator{
		Name:      "java_random_nextint1000",
		Met:       "Java, Kotlin, Scala: new Random(seed).nextInt(1000)",
		SeedBits:  64,
		WidthBits: 10,
		Definition: javaSeeding + "nextInt(1000) takes u=next(31), and again while u >= 2147483000; output u mod 1000. " +
			"An output is one call. Only the low 48 seed bits matter.",
		Source: "OpenJDK 17.0.21 Random.nextInt(1000)",
	},
	most:       999,
	setupSteps: 1,
	open:       func() stream { return new(javaIntStream) },
}

var javaStep = affine{0x5DEECE66D, 0xB}

const mask48 = 1<<48 - 1

type javaStream struct {
	s    uint64 // the low 48 bits count
	leap leap
}

func (g *javaStream) seed(seed uint64) { g.s = seed ^ javaStep.mul }

func (g *javaStream) skip(n uint64) { g.s = g.leap.by(javaStep, n).of(g.s) }

func (g *javaStream) fill(dst []uint64) {
	s := g.s
	for i := range dst {
		s = s*0x5DEECE66D + 0xB
		dst[i] = s & mask48 >> 16
	}
	g.s = s
}

// javaEnd1000 is the first value of next(31) that nextInt(1000) refuses.
const javaEnd1000 = 2147483000

type javaIntStream struct{ s uint64 }

func (g *javaIntStream) seed(seed uint64) { g.s = seed ^ javaStep.mul }

func (g *javaIntStream) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g *javaIntStream) fill(dst []uint64) {
	for i := range dst {
		dst[i] = uint64(g.next() % 1000)
	}
}

// next is the next accepted next(31).
func (g *javaIntStream) next() uint32 {
	for {
		g.s = g.s*0x5DEECE66D + 0xB
		if u := uint32(g.s & mask48 >> 17); u < javaEnd1000 {
			return u
		}
	}
}
