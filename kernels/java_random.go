package kernels

// java.util.Random and what its methods make of its 48-bit generator.

const javaText = "java.util.Random: s=(seed^0x5DEECE66D)&(2^48-1); next(b): s=(s*0x5DEECE66D+11) mod 2^48, return s>>(48-b). " +
	"Only the low 48 seed bits matter. "

var javaRandomNext32Word = &linear{step: javaStep, bits: 48, shift: 16, start: javaStart, seedOf: javaSeed}

var javaRandomNext32 = definition{
	Generator: Generator{
		Name:      "java_random_next32",
		Met:       "Java, Kotlin, Scala: new Random(seed).nextInt(), as an unsigned number",
		SeedBits:  64,
		StateBits: 48,
		WidthBits: 32,
		Definition: javaText +
			"Output next(32), unsigned.",
		Source: "OpenJDK 17.0.21 java.util.Random.next(32)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       javaRandomNext32Word.open,
	backward:   javaRandomNext32Word.back,
}

var javaRandomNextInt1000 = definition{
	Generator: Generator{
		Name:      "java_random_nextint1000",
		Met:       "Java, Kotlin, Scala: new Random(seed).nextInt(1000)",
		SeedBits:  64,
		StateBits: 48,
		WidthBits: 10,
		Definition: javaText +
			"nextInt(1000) takes u=next(31), and again while u >= 2147483000; output u mod 1000. An output is one call.",
		Source: "OpenJDK 17.0.21 Random.nextInt(1000)",
	},
	most:       999,
	setupSteps: 1,
	open:       func() stream { return newJavaInts(1000) },
}

var javaRandomNextInt1024Word = &linear{step: javaStep, bits: 48, shift: 38, start: javaStart, seedOf: javaSeed}

var javaRandomNextInt1024 = definition{
	Generator: Generator{
		Name:      "java_random_nextint1024",
		Met:       "Java, Kotlin, Scala: new Random(seed).nextInt(1024)",
		SeedBits:  64,
		StateBits: 48,
		WidthBits: 10,
		Definition: javaText +
			"nextInt(n) for n a power of two is (n*next(31))>>31: the high bits.",
		Source: "OpenJDK 17.0.21 Random.nextInt(1024)",
	},
	jumps:      true,
	setupSteps: 1,
	open:       javaRandomNextInt1024Word.open,
	backward:   javaRandomNextInt1024Word.back,
}

var javaRandomNextLong = definition{
	Generator: Generator{
		Name:      "java_random_nextlong",
		Met:       "Java, Kotlin, Scala: new Random(seed).nextLong(), as an unsigned number",
		SeedBits:  64,
		StateBits: 48,
		WidthBits: 64,
		Definition: javaText +
			"nextLong() = (next(32)<<32)+next(32), both signed, so that a borrow can occur.",
		Source: "OpenJDK 17.0.21 Random.nextLong()",
	},
	setupSteps: 1,
	open:       results(javaRandomNext32.open, javaLong),
}

var javaRandomNextDouble53 = definition{
	Generator: Generator{
		Name:      "java_random_nextdouble53",
		Met:       "Java, Kotlin, Scala: new Random(seed).nextDouble(), Math.random() of a known seed, times 2^53",
		SeedBits:  64,
		StateBits: 48,
		WidthBits: 53,
		Definition: javaText +
			"nextDouble() = ((next(26)<<27)+next(27))/2^53; output the 53-bit integer.",
		Source: "OpenJDK 17.0.21 Random.nextDouble() times 2^53",
	},
	setupSteps: 1,
	open:       results(javaRandomNext32.open, javaDouble),
}

var javaRandomNextFloat24Word = &linear{step: javaStep, bits: 48, shift: 24, start: javaStart, seedOf: javaSeed}

var javaRandomNextFloat24 = definition{
	Generator: Generator{
		Name:      "java_random_nextfloat24",
		Met:       "Java, Kotlin, Scala: new Random(seed).nextFloat(), times 2^24",
		SeedBits:  64,
		StateBits: 48,
		WidthBits: 24,
		Definition: javaText +
			"nextFloat() = next(24)/2^24; output the 24-bit integer.",
		Source: "OpenJDK 17.0.21 Random.nextFloat() times 2^24",
	},
	jumps:      true,
	setupSteps: 1,
	open:       javaRandomNextFloat24Word.open,
	backward:   javaRandomNextFloat24Word.back,
}

var javaStep = affine{0x5DEECE66D, 0xB}

const mask48 = 1<<48 - 1

var javaStart = seeding{xor: javaStep.mul}

// javaSeed is the smallest seed of a state.
func javaSeed(state uint64) uint64 { return (state ^ javaStep.mul) & mask48 }

func javaLong(o *outputs) uint64 {
	high := o.next() << 32
	return high + uint64(int64(int32(o.next())))
}

func javaDouble(o *outputs) uint64 {
	high := o.next() >> 6
	return high<<27 | o.next()>>5
}

// A javaInts is the results of nextInt(n), for n from 1 to 2^31-1 that is not a
// power of two: next(31) modulo n, drawn again from end on, which is where a
// complete set of residues ends.
type javaInts struct {
	n, end uint32
	s      uint64
}

func newJavaInts(n uint32) *javaInts { return &javaInts{n: n, end: 1<<31 - 1<<31%n} }

func (g *javaInts) seed(seed uint64) { g.s = javaStart.of(seed) }

func (g *javaInts) skip(n uint64) {
	for range n {
		g.next()
	}
}

func (g *javaInts) fill(dst []uint64) {
	n := g.n
	for i := range dst {
		dst[i] = uint64(g.next() % n)
	}
}

// next is the next accepted next(31).
func (g *javaInts) next() uint32 {
	for {
		g.s = g.s*0x5DEECE66D + 0xB
		if u := uint32(g.s & mask48 >> 17); u < g.end {
			return u
		}
	}
}
